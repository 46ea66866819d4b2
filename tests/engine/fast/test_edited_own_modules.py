"""Edits between a call and its backward where plain autograd goes through the user's own modules."""

import copy

import pytest
import torch
from diffusers import AutoencoderTiny
from torch import nn

from diffexplain_fast.engine.guarded import Guarded
from diffexplain_fast.engine.single import SingleCalls
from diffexplain_fast.models.numbers import Numbers
from tests.engine.fast.test_edited_data import EDITED, averaged, given, pull
from tests.engine.fast.trained import models_of, sampler_of, trained_in, vae_weight, with_lora
from tests.engine.plain import relative
from tests.tiny import seeded


def hooked(models):
    """Models that the fast backend leaves to themselves."""
    for middle in (models.unet.mid_block, models.vae.decoder.mid_block):
        middle.register_forward_hook(lambda part, rows, output: 1.1 * output)
    return models


def calls_of(models, way):
    if way == "class":
        return SingleCalls.of(models.unet, models.vae, "reference")
    return sampler_of(hooked(models) if way == "fast" else models, way).single_calls()


def run_of(calls, part, leaf):
    embeds = given()["prompt_embeds"].detach()
    return (lambda: calls.denoise(leaf, 5, embeds)) if part == "unet" else lambda: calls.decode(leaf)


def start():
    return given()["latents"].clone().requires_grad_()


WAYS = ["fast", "reference", "class"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("part", ["unet", "vae"])
def test_the_backward_of_a_single_call_compares_the_weights_with_those_of_the_call(part, way):
    models, leaf = models_of(), start()
    run, weights = run_of(calls_of(models, way), part, leaf), [*getattr(models, part).parameters()]
    output = run()
    wanted = pull(output, leaf)
    for edited in (weights, weights[-1:]):
        with averaged(*edited):
            other = run()
            with pytest.raises(RuntimeError, match=EDITED):
                pull(output, leaf)
            changed = pull(other, leaf)
        with pytest.raises(RuntimeError, match=EDITED):
            pull(other, leaf)
        assert torch.equal(pull(output, leaf), wanted) and not torch.equal(changed, wanted)


@pytest.mark.parametrize("way", ["fast", "reference"])
def test_trained_weights_are_compared_too(way):
    for models, part in ((with_lora(), "unet"), (models_of(), "vae")):
        if part == "vae":
            vae_weight(models)
        weight, leaf = next(iter(trained_in(models).values())), start()
        output = run_of(calls_of(models, way), part, leaf)()
        wanted = torch.autograd.grad(output.square().mean(), weight, retain_graph=True)[0]
        with averaged(weight), pytest.raises(RuntimeError, match=EDITED):
            torch.autograd.grad(output.square().mean(), weight, retain_graph=True)
        assert torch.equal(torch.autograd.grad(output.square().mean(), weight)[0], wanted)


@pytest.mark.parametrize("way", ["fast", "reference"])
def test_a_decoder_of_another_class_is_compared(way):
    models, leaf = models_of(), start()
    blocks = {f"{part}coder_block_out_channels": (8, 8) for part in ("en", "de")}
    models.vae = seeded(lambda: AutoencoderTiny(**blocks, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)))
    models.vae.double().requires_grad_(False)
    output = sampler_of(models, way).single_calls().decode(leaf)
    with averaged(*models.vae.parameters()), pytest.raises(RuntimeError, match=EDITED):
        pull(output, leaf)


def test_a_caller_who_knows_better_is_not_asked():
    models, leaf = models_of(), start()
    for way in ("fast", "reference"):
        calls = sampler_of(hooked(models) if way == "fast" else models, way).single_calls(closely=False)
        for part in ("unet", "vae"):
            output = run_of(calls, part, leaf)()
            with averaged(*getattr(models, part).parameters()):
                pull(output, leaf)


@pytest.mark.parametrize("way", WAYS)
def test_what_does_not_change_the_gradient_of_plain_autograd_is_no_edit(way):
    """Hooks that come and go, weights that others take the place of, the other model, and weights that move."""
    models, leaf = models_of(), start()
    run = run_of(calls_of(models, way), "unet", leaf)
    handle = models.unet.conv_in.register_forward_hook(lambda part, rows, output: 1.2 * output)
    output = run()
    wanted = pull(output, leaf)
    handle.remove()
    models.unet.conv_in.note, before = "seen", models.unet.conv_out.weight
    models.unet.conv_out.weight = nn.Parameter(2 * before, requires_grad=False)
    for weight in models.unet.parameters():
        weight.data = weight.data.clone()
    with averaged(*models.vae.parameters()):
        assert torch.equal(pull(output, leaf), wanted)
    assert not torch.equal(pull(run(), leaf), wanted)
    before.data = 2 * before.data
    with pytest.raises(RuntimeError, match=EDITED):
        pull(output, leaf)
    before.data = (before.data / 2).float()
    with pytest.raises(RuntimeError, match=EDITED):
        pull(output, leaf)


@pytest.mark.parametrize("way", WAYS)
def test_a_hook_that_writes_by_data_changes_earlier_calls_alone(way):
    models, leaf = models_of(), start()
    weight = models.unet.conv_in.weight
    plain = weight.detach().clone()

    def scaled(module, arguments):
        weight.data.copy_(plain * (1 + float(arguments[1]) / 1000))

    models.unet.register_forward_pre_hook(scaled)
    calls, embeds = calls_of(models, way), given()["prompt_embeds"].detach()
    wanted = pull(calls.denoise(leaf, 5, embeds), leaf)
    first = calls.denoise(leaf, 5, embeds)
    assert torch.equal(pull(first, leaf), wanted)
    later = calls.denoise(leaf, 4, embeds)
    assert pull(later, leaf).norm() > 0
    with pytest.raises(RuntimeError, match=EDITED):
        pull(first, leaf)


def test_a_backward_reads_the_weights_once_and_without_a_graph_nothing_does(monkeypatch):
    models, leaf, read = models_of(), start(), []
    calls, embeds, again = calls_of(models, "reference"), given()["prompt_embeds"].detach(), Numbers._read
    monkeypatch.setattr(Numbers, "_read", lambda numbers: read.append(1) or again(numbers))
    with torch.no_grad():
        calls.decode(calls.denoise(leaf, 5, embeds))
    assert not read
    sample = leaf
    for time in (5, 4, 3):
        sample = calls.denoise(sample, time, embeds)
    assert len(read) == 3
    pull(sample, leaf)
    pull(sample, leaf)
    assert len(read) == 5


def test_every_way_to_differentiate_goes_through_the_comparison():
    """Batches of cotangents and ``torch.func`` give what they give without it."""
    models, leaf = models_of(), start()
    calls, cotangents = calls_of(models, "reference"), torch.randn(2, *leaf.shape, dtype=leaf.dtype)
    alone = copy.deepcopy(models)
    embeds = given()["prompt_embeds"].detach()
    output, plain = calls.denoise(leaf, 5, embeds), alone.unet(leaf, 5, embeds).sample
    batches = [torch.autograd.grad(each, leaf, cotangents, True, is_grads_batched=True)[0] for each in (output, plain)]
    assert relative(*batches) <= 1e-12
    assert (
        relative(torch.func.vjp(lambda x: calls.denoise(x, 5, embeds), leaf)[1](cotangents[0])[0], batches[1][0])
        < 1e-12
    )
    weights = [*models.unet.parameters()]
    with averaged(*weights), pytest.raises(RuntimeError, match=EDITED):
        torch.autograd.grad(output, leaf, cotangents, is_grads_batched=True)


def test_weights_without_memory_are_not_compared():
    model = nn.Linear(2, 2)
    model.bias = nn.Parameter(torch.empty(2, device="meta"))
    output = Guarded(model)(nn.functional.linear(torch.ones(1, 2), model.weight))
    with averaged(model.weight), pytest.raises(RuntimeError, match=EDITED):
        output.sum().backward()
    output.sum().backward()
    assert torch.equal(model.weight.grad, torch.ones(2, 2))
