"""Edits by ``weight.data``, which change neither address nor version, between a call and its backward."""

from contextlib import contextmanager

import pytest
import torch

from diffexplain_fast.engine.single import SingleCalls
from diffexplain_fast.models.numbers import Numbers
from tests.engine.fast.cases import cotangent_of, inputs_of
from tests.engine.fast.trained import both, gradients_of, models_of, sampler_of, trained_in, vae_weight, with_lora
from tests.engine.graphs.test_recording import REPLAYED, graphed, state
from tests.engine.plain import relative

EDITED = "the UNet or the VAE was edited between the sampler's call and its backward"


def given():
    inputs = inputs_of("sd15")
    inputs["prompt_embeds"].requires_grad_()
    return inputs


@contextmanager
def averaged(*weights):
    """Other values in weights, as ``EMAModel.copy_to`` and ``restore`` of diffusers put them in and out."""
    before = [weight.detach().clone() for weight in weights]
    for weight in weights:
        weight.data.copy_(1.05 * weight.data)
    yield
    for weight, value in zip(weights, before, strict=True):
        weight.data.copy_(value)


def pull(images, leaf, retain=True):
    return torch.autograd.grad(images.square().mean(), leaf, retain_graph=retain)[0]


@pytest.mark.parametrize("options", [{"gradient": "full"}, {"gradient": "checkpointed"}, {"kind": "dpm"}], ids=str)
@pytest.mark.parametrize("part", ["unet", "vae"])
def test_every_backward_compares_the_values_of_the_weights(part, options):
    models, inputs = models_of(), given()
    images = sampler_of(models, **options)(**inputs)
    weights = [*getattr(models, part).parameters()]
    with averaged(*weights), pytest.raises(RuntimeError, match=EDITED):
        pull(images, inputs["prompt_embeds"])
    wanted = pull(sampler_of(models, **options)(**inputs), inputs["prompt_embeds"])
    images = sampler_of(models, **options)(**inputs)
    with averaged(*weights):
        pass  # an edit that was undone before the backward is none
    assert torch.equal(pull(images, inputs["prompt_embeds"]), wanted)
    with averaged(*weights), pytest.raises(RuntimeError, match=EDITED):
        pull(images, inputs["prompt_embeds"])
    assert torch.equal(pull(images, inputs["prompt_embeds"]), wanted)


def test_one_edited_layer_shows_and_another_call_meanwhile_changes_nothing():
    models, inputs = models_of(), given()
    sampler = sampler_of(models)
    images = sampler(**inputs)
    wanted = pull(images, inputs["prompt_embeds"])
    with averaged(models.unet.conv_out.bias):
        other = sampler(**inputs)
        with pytest.raises(RuntimeError, match=EDITED):
            pull(images, inputs["prompt_embeds"])
        changed = pull(other, inputs["prompt_embeds"])
    assert torch.equal(pull(images, inputs["prompt_embeds"]), wanted) and not torch.equal(changed, wanted)
    with pytest.raises(RuntimeError, match=EDITED):
        pull(other, inputs["prompt_embeds"])


@pytest.mark.parametrize("choose", [None, vae_weight, both])
def test_trained_weights_are_compared_with_those_of_the_call(choose):
    models = models_of() if choose else with_lora()
    if choose:
        choose(models)
    weights, sampler = [*trained_in(models).values()], sampler_of(models)
    wanted = torch.autograd.grad(sampler(**inputs_of("sd15")).square().mean(), weights)
    loss = sampler(**inputs_of("sd15")).square().mean()
    for _ in range(2):
        with averaged(weights[0]), pytest.raises(RuntimeError, match=EDITED):
            torch.autograd.grad(loss, weights, retain_graph=True)
        assert all(map(torch.equal, torch.autograd.grad(loss, weights, retain_graph=True), wanted))


def test_a_replayed_call_compares_them_too():
    models, inputs = models_of(), given()
    sampler = sampler_of(models)
    graphed(sampler)
    wanted = pull(sampler(**inputs), inputs["prompt_embeds"], retain=False)
    pull(sampler(**inputs), inputs["prompt_embeds"], retain=False)
    images = sampler(**inputs)
    assert state(sampler) == REPLAYED
    for _ in range(2):
        with averaged(*models.unet.parameters()), pytest.raises(RuntimeError, match=EDITED):
            pull(images, inputs["prompt_embeds"])
        assert torch.equal(pull(images, inputs["prompt_embeds"]), wanted)


@pytest.mark.parametrize("made_by", ["sampler", "class"])
@pytest.mark.parametrize("part", ["unet", "vae"])
def test_single_calls_compare_them(part, made_by):
    models, inputs = models_of(), given()
    calls = SingleCalls.of(models.unet, models.vae, "fast")
    calls = sampler_of(models).single_calls() if made_by == "sampler" else calls
    leaf, embeds = inputs["latents"].clone().requires_grad_(), inputs["prompt_embeds"].detach()
    output = calls.denoise(leaf, 5, embeds) if part == "unet" else calls.decode(leaf)
    wanted = pull(output, leaf)
    with averaged(*getattr(models, part).parameters()), pytest.raises(RuntimeError, match=EDITED):
        pull(output, leaf)
    assert torch.equal(pull(output, leaf), wanted)


def test_single_calls_compare_trained_weights():
    models, inputs = with_lora(), given()
    calls, weights = sampler_of(models).single_calls(), [*trained_in(models).values()]
    output = calls.denoise(inputs["latents"], 5, inputs["prompt_embeds"])
    wanted = pull(output, inputs["prompt_embeds"])
    with averaged(weights[-1]), pytest.raises(RuntimeError, match=EDITED):
        pull(output, weights[0])
    assert torch.equal(pull(output, inputs["prompt_embeds"]), wanted) and calls.described == "lean model"


def test_a_backward_through_many_single_calls_reads_the_weights_once(monkeypatch):
    models, inputs = models_of(), given()
    calls, read = sampler_of(models).single_calls(), []
    sample = inputs["latents"]
    for time in (5, 4, 3):
        sample = calls.denoise(sample, time, inputs["prompt_embeds"])
    differ = Numbers.differ
    monkeypatch.setattr(Numbers, "differ", lambda numbers: bool(numbers.compared and read.append(1)) or differ(numbers))
    pull(sample, inputs["prompt_embeds"])
    pull(sample, inputs["prompt_embeds"])
    assert len(read) == 2


@pytest.mark.parametrize("what", ["prompt_embeds", "negative_prompt_embeds"])
def test_text_that_the_users_own_unet_reads_again_is_a_copy(what):
    models, inputs = models_of(), given()
    inputs["latents"].requires_grad_()
    inputs[what] = inputs[what].detach()
    models.unet.mid_block.register_forward_hook(lambda *_: None)
    images = sampler_of(models, guidance=1.0 if what == "prompt_embeds" else 3.0)(**inputs)
    wanted = pull(images, inputs["latents"])
    with averaged(inputs[what]):
        assert torch.equal(pull(images, inputs["latents"]), wanted)


def test_what_a_hook_writes_by_data_in_every_run_is_no_edit():
    """The weights are those of the last step after a call, and those of the first one after its backward."""
    models, inputs = models_of(), given()
    weight = models.unet.conv_in.weight
    plain = weight.detach().clone()

    def scaled(module, arguments):
        weight.data.copy_(plain * (1 + arguments[1].flatten()[0] / 1000))

    models.unet.register_forward_pre_hook(scaled)
    wanted = pull(sampler_of(models, "reference", gradient="checkpointed")(**inputs), inputs["prompt_embeds"])
    sampler = sampler_of(models)
    images, other = sampler(**inputs), sampler(**inputs)
    for _ in range(2):
        assert relative(pull(images, inputs["prompt_embeds"]), wanted) <= 1e-10
    assert relative(pull(images + other, inputs["prompt_embeds"]), 4 * wanted) <= 1e-10


def stepped_by_data(weight, rate=0.1):
    weight.data.sub_(rate * weight.grad)
    weight.grad = None


@pytest.mark.parametrize("make", [with_lora, models_of], ids=["lora", "base"])
def test_an_optimizer_may_step_inside_of_the_backward(make):
    """Each weight at once where its gradient is there, by ``data``, while other calls of the loss are not yet done."""
    losses = {}
    for backend in ("fast", "reference"):
        models = make()
        if not trained_in(models):
            both(models)
        for weight in trained_in(models).values():
            weight.register_post_accumulate_grad_hook(stepped_by_data)
        sampler, inputs = sampler_of(models, backend), inputs_of("sd15")
        calls = sampler.single_calls()
        losses[backend] = []
        for _ in range(3):
            noise = calls.denoise(inputs["latents"], 5, inputs["prompt_embeds"])
            loss = sampler(**inputs).square().mean() + sampler(**inputs).mean() + calls.decode(noise).square().mean()
            loss = (
                loss
                + calls.denoise(calls.denoise(noise, 3, inputs["prompt_embeds"]), 1, inputs["prompt_embeds"]).mean()
            )
            loss.backward()
            losses[backend].append(loss.item())
    assert losses["fast"] == pytest.approx(losses["reference"], rel=1e-9) and len({*losses["fast"]}) == 3


def test_gradients_of_several_calls_are_accumulated():
    models = with_lora()
    sampler, weights = sampler_of(models), trained_in(models)
    wanted = gradients_of(sampler, models)
    images = [sampler(**inputs_of("sd15")) for _ in range(2)]
    for each in images:
        each.backward(cotangent_of(each))
    assert all(torch.equal(weight.grad, 2 * wanted[name]) for name, weight in weights.items())
