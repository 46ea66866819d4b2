"""Edits between a call of the reference and its backward: they raise where the gradient would be another one."""

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import nn

from diffexplain_fast.engine.reference import Conditions, guided_denoiser
from diffexplain_fast.models.attributes import Attributes
from diffexplain_fast.models.numbers import Numbers
from tests.engine.fast.test_edited_data import EDITED, averaged, given, pull
from tests.engine.fast.trained import models_of, sampler_of, trained_in, with_lora
from tests.engine.plain import relative

GRADIENTS = ["full", "checkpointed"]


def called(models, gradient, **options):
    inputs = given()
    return sampler_of(models, "reference", gradient=gradient, **options)(**inputs), inputs["prompt_embeds"]


@pytest.mark.parametrize("gradient", [*GRADIENTS, "last:1", "detached"])
@pytest.mark.parametrize("part", ["unet", "vae"])
def test_values_of_weights_are_compared(part, gradient):
    models = models_of()
    weights = [*getattr(models, part).parameters()]
    images, prompt = called(models, gradient)
    for edited in (weights, weights[-1:]):
        with averaged(*edited), pytest.raises(RuntimeError, match=EDITED):
            pull(images, prompt)
    wanted = pull(images, prompt)
    images, prompt = called(models, gradient)
    with averaged(*weights):
        pass  # an edit that was undone before the backward is none
    for weight in weights:
        weight.data = weight.data.clone()  # as of a model that was on another device meanwhile
    assert torch.equal(pull(images, prompt), wanted)
    with averaged(*weights), pytest.raises(RuntimeError, match=EDITED):
        pull(images, prompt)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_values_of_trained_weights_are_compared(gradient):
    models = with_lora()
    weight = next(iter(trained_in(models).values()))
    images, _ = called(models, gradient)
    wanted = pull(images, weight)
    with averaged(weight), pytest.raises(RuntimeError, match=EDITED):
        pull(images, weight)
    assert torch.equal(pull(images, weight), wanted)


def disabled(unet):
    unet.disable_adapters()


def scaled(unet):
    unet.set_adapters("default", 0.5)


def out_of_context(unet):
    for module in unet.modules():
        if hasattr(module, "adapter_layer_names"):
            module.enable_adapters(False)


def another_processor(unet):
    unet.set_attn_processor(AttnProcessor())


def another_option(unet):
    unet.mid_block.resnets[0].output_scale_factor = 2.0


def another_weight(unet):
    unet.conv_out.weight = nn.Parameter(2 * unet.conv_out.weight.detach())


@pytest.mark.parametrize("edit", [disabled, scaled, out_of_context, another_processor, another_option, another_weight])
def test_what_a_recompute_would_read_is_compared_and_plain_autograd_reads_nothing_again(edit):
    found = {}
    for gradient in GRADIENTS:
        models = with_lora()
        with torch.no_grad():
            for name, weight in models.unet.named_parameters():
                if "lora_B" in name:
                    weight.zero_()  # such an adapter computes nothing, but has a graph
        images, prompt = called(models, gradient)
        found[gradient] = pull(images, prompt)
        edit(models.unet)
        if gradient == "full":
            assert torch.equal(pull(images, prompt), found["full"])
        else:
            with pytest.raises(RuntimeError, match=EDITED):
                pull(images, prompt)
    assert relative(found["checkpointed"], found["full"]) <= 1e-12


def noted(models):
    models.unet.note, models.vae.log = "epoch 3", [1]


def registered(models):
    models.unet.register_to_config(foo=1)


def fresh_processors(models):
    models.unet.set_attn_processor(type(models.unet.mid_block.attentions[0].transformer_blocks[0].attn1.processor)())


def unused_dropout(models):
    models.unet.mid_block.resnets[0].dropout.p = 0.3


def another_layout(models):
    for model in (models.unet, models.vae):
        model.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("change", [noted, registered, fresh_processors, unused_dropout, another_layout])
def test_what_changes_no_result_is_no_edit(change, gradient):
    models = models_of()
    images, prompt = called(models, gradient)
    wanted = pull(images, prompt)
    change(models)
    assert relative(pull(images, prompt), wanted) <= 1e-12
    weight = models.unet.conv_in.weight
    with averaged(weight), pytest.raises(RuntimeError, match=EDITED):
        pull(images, prompt)


def test_adapters_of_peft_that_were_disabled_in_the_call_alone():
    peft, models = pytest.importorskip("peft"), models_of()
    config = peft.LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False)
    models.unet = peft.get_peft_model(models.unet, config).double()
    with models.unet.disable_adapter():
        images, prompt = called(models, "checkpointed")
        wanted = pull(images, prompt)
    with pytest.raises(RuntimeError, match=EDITED):
        pull(images, prompt)
    with models.unet.disable_adapter():
        assert torch.equal(pull(images, prompt), wanted)


def write_in_every_run(models, in_place=False):
    """Let a hook of the UNet write a weight, and another value in each step."""
    weight = models.unet.conv_in.weight
    plain = weight.detach().clone()

    def scaled(module, arguments):
        module.calls = getattr(module, "calls", 0) + 1
        with torch.no_grad():
            (weight if in_place else weight.data).copy_(plain * (1 + arguments[1].flatten()[0] / 1000))

    models.unet.register_forward_pre_hook(scaled)


def test_what_a_run_writes_and_hooks_that_compute_nothing_are_no_edit():
    """Weights that are written in place and by data, counts, and a hook that is gone before the backward."""
    gradients = []
    for in_place in (False, True):
        models = models_of()
        write_in_every_run(models, in_place)
        handle = models.vae.decoder.conv_in.register_forward_hook(lambda *_: None)
        images, prompt = called(models, "checkpointed")
        handle.remove()
        models.unet.calls = 0
        gradients += [pull(images, prompt), pull(images, prompt)]
    assert all(torch.equal(each, gradients[0]) for each in gradients)


def test_a_hook_that_changes_weights_between_the_steps_raises_in_plain_autograd():
    models = models_of()
    write_in_every_run(models)
    images, prompt = called(models, "full")
    with pytest.raises(RuntimeError, match=EDITED):
        pull(images, prompt)
    images, prompt = called(models, "full", steps=1)
    alone, leaf = called(models, "checkpointed", steps=1)
    assert relative(pull(images, prompt), pull(alone, leaf)) <= 1e-12


def test_the_weights_are_read_once_a_call_and_once_a_backward(monkeypatch):
    models, read, looked = models_of(), [], []
    again, attributes = Numbers._read, Attributes._named
    monkeypatch.setattr(Numbers, "_read", lambda numbers: read.append(1) or again(numbers))
    monkeypatch.setattr(Attributes, "_named", lambda each: looked.append(1) or attributes(each))
    with torch.no_grad():
        called(models, "checkpointed"), called(models, "full")
    assert not read and not looked
    for gradient in GRADIENTS:
        images, prompt = called(models, gradient, steps=3)
        assert len(read) == 2  # UNet and VAE
        pull(images, prompt)
        assert len(read) == 4
        read.clear()
    modules = sum(1 for part in (models.unet, models.vae) for _ in part.modules())
    assert len(looked) == modules


def test_an_edit_between_two_steps_of_a_denoiser_raises():
    models, inputs = models_of(), given()
    sample = inputs["latents"].clone().requires_grad_()
    denoiser = guided_denoiser(models.unet, Conditions(inputs["prompt_embeds"].detach(), None), 1.0)
    output = denoiser(sample, torch.tensor(5))
    with averaged(models.unet.conv_in.weight), pytest.raises(RuntimeError, match=EDITED):
        pull(output, sample)
    assert pull(output, sample).norm() > 0
