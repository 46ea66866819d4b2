"""Models edited after the sampler was made, and models it does not know: the images and gradients are still theirs."""

import copy
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderTiny
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from diffexplain_fast.engine.fast.edits import Watch
from tests.engine.plain import relative
from tests.engine.samplers import embeds, sampler_of
from tests.tiny import seeded, tiny_sd


@pytest.fixture
def pipe():
    made = tiny_sd().to(torch.float64)
    return SimpleNamespace(unet=made.unet, vae=made.vae)


def run(sampler):
    """Images and the prompt's gradient of random weights of their pixels."""
    prompt, negative = embeds(dtype=torch.float64).requires_grad_(), embeds(seed=1, dtype=torch.float64)
    images = sampler(prompt, negative, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return images.detach(), torch.autograd.grad((images * weights).sum(), prompt)[0]


def assert_true(sampler, pipe):
    """The sampler gives what plain autograd through the modules as they are now gives."""
    for got, wanted in zip(run(sampler), run(sampler_of(pipe, backend="reference")), strict=True):
        assert relative(got, wanted) <= 1e-10


class Doubled(ResnetBlock2D):
    """A block that computes something else than its class's."""

    def forward(self, *arguments, **options):
        return 2 * super().forward(*arguments, **options)


class Louder(AttnProcessor2_0):
    """A processor of the user's own."""

    def __call__(self, *arguments, **options):
        return 1.5 * super().__call__(*arguments, **options)


Louder.__name__ = "AttnProcessor2_0"  # nobody is known by name alone


class LoraLike(nn.Module):
    """A layer with a low-rank change, in the manner of PEFT."""

    merged, disable_adapters, active_adapters = False, False, ("default",)

    def __init__(self, base, **options):
        super().__init__()
        self.base_layer, self.scaling = base, {"default": 0.5}
        draw = torch.Generator().manual_seed(0)
        down, up = (
            nn.Linear(a, b, bias=False, dtype=torch.float64) for a, b in ((base.in_features, 2), (2, base.out_features))
        )
        for layer in (down, up):
            layer.weight = nn.Parameter(torch.randn(layer.weight.shape, generator=draw, dtype=torch.float64))
        self.lora_A, self.lora_B = nn.ModuleDict({"default": down}), nn.ModuleDict({"default": up})
        vars(self).update(options)

    def get_delta_weight(self, adapter):
        return self.scaling[adapter] * self.lora_B[adapter].weight @ self.lora_A[adapter].weight

    def forward(self, x):
        if self.disable_adapters:
            return self.base_layer(x)
        change = self.scaling["default"] * self.lora_B["default"](self.lora_A["default"](x))
        return self.base_layer(x) + change * (2 if any(getattr(self, "use_dora", {}).values()) else 1)


def block_of(pipe):
    return pipe.unet.mid_block.attentions[0].transformer_blocks[0]


def lora(pipe, **options):
    block = block_of(pipe)
    block.attn2.to_k = LoraLike(block.attn2.to_k, **options)
    block.ff.net[2] = LoraLike(block.ff.net[2], **options)


def in_place(pipe):
    with torch.no_grad():
        pipe.unet.conv_in.weight.mul_(1.5)


def through_data(pipe):
    pipe.unet.mid_block.resnets[0].conv1.weight.data.mul_(1.01)


def linear_through_data(pipe):
    pipe.unet.time_embedding.linear_2.weight.data[0] += 0.1


def another_weight(pipe):
    pipe.vae.decoder.conv_in.weight = nn.Parameter(1.5 * pipe.vae.decoder.conv_in.weight.detach())


def another_module(pipe):
    block_of(pipe).ff = copy.deepcopy(block_of(pipe).ff)
    block_of(pipe).ff.net[2].bias.data += 1


def another_config(pipe):
    pipe.vae.register_to_config(scaling_factor=0.5)


def another_eps(pipe):
    pipe.unet.conv_norm_out.eps = 0.1


def plain_processor(pipe):
    pipe.unet.set_attn_processor(AttnProcessor())


def negated_through_data(pipe):
    pipe.unet.mid_block.resnets[0].conv1.weight.data.neg_()


def reordered_through_data(pipe):
    weight = pipe.unet.down_blocks[0].resnets[0].conv1.weight.data
    weight.copy_(weight.roll(1, 0))


STILL_KNOWN = (in_place, through_data, linear_through_data, another_weight, another_module, another_config, another_eps)
STILL_KNOWN += (plain_processor, lora, negated_through_data, reordered_through_data)


def own_processor(pipe):
    block_of(pipe).attn1.set_processor(Louder())


def own_block(pipe):
    pipe.unet.mid_block.resnets[0].__class__ = Doubled


def own_forward(pipe):
    resnet = pipe.unet.mid_block.resnets[0]
    plain = resnet.forward
    resnet.forward = lambda *given: 2 * plain(*given)


def own_scale(pipe):
    pipe.unet.set_attn_processor(AttnProcessor())
    block_of(pipe).attn1.scale *= 2


def freeu(pipe):
    pipe.unet.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)


def sliced(pipe):
    pipe.unet.set_attention_slice(1)


def tiled(pipe):
    pipe.vae.enable_slicing()


def hook(pipe):
    pipe.unet.mid_block.register_forward_hook(lambda module, given, output: output * 1.5)


def pre_hook(pipe):
    pipe.vae.decoder.register_forward_pre_hook(lambda module, given: (given[0] * 1.5,))


def backward_hook(pipe):
    pipe.unet.mid_block.register_full_backward_hook(lambda module, before, after: (2 * before[0], *before[1:]))


def another_kind_of_lora(pipe):
    lora(pipe, use_dora={"default": True})


def another_activation(pipe):
    pipe.unet.conv_act = nn.Tanh()


def hook_on_everything(pipe):
    register_module_forward_hook(lambda part, given, output: 1.5 * output if isinstance(part, nn.Conv2d) else None)


def another_class(pipe):
    plain = ResnetBlock2D.forward
    ResnetBlock2D.forward = lambda *given, **options: 1.5 * plain(*given, **options)


def another_processor_class(pipe):
    plain = AttnProcessor2_0.__call__
    AttnProcessor2_0.__call__ = lambda *given, **options: 1.5 * plain(*given, **options)


@pytest.fixture(autouse=True)
def shared_state_as_it_was(monkeypatch):
    """Whatever a test does to diffusers' classes and to the hooks on all modules is taken back."""
    monkeypatch.setattr(ResnetBlock2D, "forward", ResnetBlock2D.forward)
    monkeypatch.setattr(AttnProcessor2_0, "__call__", AttnProcessor2_0.__call__)
    monkeypatch.setattr(nn.modules.module, "_global_forward_hooks", OrderedDict())


UNKNOWN = {
    own_processor: "AttnProcessor2_0 where diffusers' AttnProcessor",
    own_block: "Doubled where diffusers' ResnetBlock2D was expected",
    own_forward: "a hook or another forward on mid_block.resnets.0",
    own_scale: "attention with a scale of its own",
    freeu: "FreeU",
    sliced: "SlicedAttnProcessor",
    tiled: "a tiled or sliced VAE",
    hook: "a hook or another forward on mid_block",
    pre_hook: "a hook or another forward on decoder",
    backward_hook: "a hook or another forward on mid_block",
    another_kind_of_lora: "a LoRA with magnitudes, biases or a variant of its own",
    another_activation: "another activation",
    hook_on_everything: "a hook on all modules",
    another_class: "ResnetBlock2D computes by tests.engine.fast.test_edits.another_class.<locals>.<lambda>",
    another_processor_class: "AttnProcessor2_0 computes by tests.engine.fast.test_edits",
}


def name(edit):
    return edit.__name__


@pytest.mark.parametrize("edit", STILL_KNOWN, ids=name)
def test_edits_are_seen(pipe, edit):
    sampler = sampler_of(pipe, backend="fast")
    before = run(sampler)
    edit(pipe)
    assert_true(sampler, pipe)
    assert not sampler._engine.unknown
    assert edit is plain_processor or relative(run(sampler)[1], before[1]) > 1e-6


@pytest.mark.parametrize("edit", UNKNOWN, ids=name)
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_is_not_known_runs_through_its_own_modules(pipe, edit, when):
    if when == "after":
        sampler = sampler_of(pipe, backend="fast")
        run(sampler)
        edit(pipe)
    else:
        edit(pipe)
        sampler = sampler_of(pipe, backend="fast")
    assert_true(sampler, pipe)
    assert UNKNOWN[edit] in sampler._engine.unknown


def test_an_edit_that_is_taken_back_is_seen_too(pipe):
    sampler = sampler_of(pipe, backend="fast")
    first = run(sampler)
    handle = pipe.unet.conv_in.register_forward_hook(lambda module, given, output: output * 2)
    assert_true(sampler, pipe)
    handle.remove()
    assert all(torch.equal(*both) for both in zip(run(sampler), first, strict=True))
    lora(pipe)
    assert_true(sampler, pipe)
    layer = block_of(pipe).attn2.to_k
    layer.scaling["default"] = 2.0
    assert_true(sampler, pipe)
    layer.disable_adapters = True
    assert_true(sampler, pipe)


@pytest.mark.parametrize(
    "edit", [in_place, another_weight, lora, hook, another_config, sliced, hook_on_everything], ids=name
)
@pytest.mark.parametrize("gradient", ["full", "checkpointed"])
def test_an_edit_between_call_and_backward_raises(pipe, edit, gradient):
    prompt = embeds(dtype=torch.float64).requires_grad_()
    sampler = sampler_of(pipe, backend="fast", gradient=gradient)
    images = sampler(prompt, embeds(seed=1, dtype=torch.float64))
    edit(pipe)
    with pytest.raises(RuntimeError, match=r"edited between the sampler's call and its backward; call the sampler"):
        images.sum().backward()
    assert_true(sampler_of(pipe, backend="fast", gradient=gradient), pipe)


def test_models_of_a_sampler_stay(pipe):
    sampler = sampler_of(pipe, backend="fast")
    with pytest.raises(AttributeError):
        sampler.unet = tiny_sd().unet


def test_nothing_is_read_again_without_an_edit(pipe):
    sampler = sampler_of(pipe, backend="fast")
    lean = sampler._engine.denoiser
    run(sampler)
    pipe.unet.train()
    pipe.vae.requires_grad_(False)
    run(sampler)
    assert sampler._engine.denoiser is lean


def test_auto_takes_the_reference_for_what_is_not_known_and_says_why(pipe):
    freeu(pipe)
    sampler = sampler_of(pipe)
    assert sampler.backend == "reference" and sampler.plan is None
    assert sampler.reason == "auto: the UNet runs through its own modules (FreeU (unet.disable_freeu()))"


def test_the_plan_says_what_is_not_known(pipe):
    own_block(pipe)
    pre_hook(pipe)
    sampler = sampler_of(pipe, backend="fast", memory="1GiB")
    assert_true(sampler, pipe)
    assert sampler.plan.levels == ("step",) * 3
    note = str(sampler.plan).splitlines()[-1]
    assert note.startswith("note") and "the UNet runs through its own modules (" in note
    assert "; the VAE runs through its own modules (a hook or another forward on decoder)" in note


def test_another_vae_runs_through_its_own_modules(pipe):
    sizes = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    counts = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1), "upsampling_scaling_factor": 2}
    pipe.vae = seeded(lambda: AutoencoderTiny(**sizes, **counts, latent_channels=4)).double()
    sampler = sampler_of(pipe, backend="fast")
    assert_true(sampler, pipe)
    assert "AutoencoderTiny where diffusers' AutoencoderKL was expected" in sampler._engine.unknown


def test_a_watch_of_weights_without_numbers(pipe):
    watch = Watch(pipe.unet.to("meta"))
    assert not watch.edited()
    pipe.unet.conv_in.bias = None
    assert watch.edited()


def test_a_watch_of_weights_that_are_not_finite(pipe):
    pipe.unet.conv_in.weight.data[0] = float("nan")
    watch = Watch(pipe.unet)
    assert not watch.edited()
    pipe.unet.conv_in.weight.data[0] = 1.0
    assert watch.edited()
