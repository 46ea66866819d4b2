"""Models that are edited after the sampler was created, and unknown models: images and gradients are still exact."""

from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderTiny
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from diffexplain_fast.models.watch import Watch
from tests.engine.fast.edits import (
    PATCHED,
    STILL_KNOWN,
    UNKNOWN,
    WRITING,
    another_class_of_torch,
    another_config,
    another_weight,
    block_of,
    freeu,
    hook,
    hook_on_everything,
    in_place,
    lora,
    own_block,
    plain_processor,
    pre_hook,
    sliced,
    storing_hook,
)
from tests.engine.plain import relative
from tests.engine.samplers import embeds, sampler_of
from tests.tiny import seeded, tiny_sd


@pytest.fixture
def pipe():
    made = tiny_sd().to(torch.float64)
    return SimpleNamespace(unet=made.unet, vae=made.vae)


def run(sampler):
    """Return images, and the prompt's gradient of a random weighted sum of their pixels."""
    prompt, negative = embeds(dtype=torch.float64).requires_grad_(), embeds(seed=1, dtype=torch.float64)
    images = sampler(prompt, negative, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return images.detach(), torch.autograd.grad((images * weights).sum(), prompt)[0]


def assert_true(sampler, pipe):
    """Assert that the sampler gives the results of plain autograd through the present modules."""
    for got, wanted in zip(run(sampler), run(sampler_of(pipe, backend="reference")), strict=True):
        assert relative(got, wanted) <= 1e-10


@pytest.fixture(autouse=True)
def shared_state_as_it_was(monkeypatch):
    """Undo the changes of a test to diffusers' classes and to the hooks on all modules."""
    for kind, method in PATCHED:
        monkeypatch.setattr(kind, method, getattr(kind, method))
    monkeypatch.setattr(nn.modules.module, "_global_forward_hooks", OrderedDict())


def name(edit):
    return edit.__name__


@pytest.mark.parametrize("edit", STILL_KNOWN, ids=name)
def test_every_kind_of_edit_is_seen(pipe, edit):
    sampler = sampler_of(pipe, backend="fast")
    before = run(sampler)
    edit(pipe)
    assert_true(sampler, pipe)
    assert not sampler._engine.unknown
    assert edit is plain_processor or relative(run(sampler)[1], before[1]) > 1e-6


@pytest.mark.parametrize("edit", UNKNOWN, ids=name)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_model_that_the_engine_does_not_know_runs_through_its_modules(pipe, edit, when):
    if when == "after":
        sampler = sampler_of(pipe, backend="fast")
        run(sampler)
        edit(pipe)
    else:
        edit(pipe)
        sampler = sampler_of(pipe, backend="fast")
    assert_true(sampler, pipe)
    assert UNKNOWN[edit] in sampler._engine.unknown


def test_an_edit_that_is_undone_is_seen_too(pipe):
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
    "edit",
    [in_place, another_weight, lora, hook, another_config, sliced, hook_on_everything, another_class_of_torch],
    ids=name,
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


@pytest.mark.parametrize("edit", WRITING, ids=name)
def test_what_a_run_writes_into_the_modules_is_no_edit(pipe, edit):
    edit(pipe)
    sampler = sampler_of(pipe, backend="fast")
    assert_true(sampler, pipe)
    read = sampler._engine.denoiser
    prompt = embeds(dtype=torch.float64).requires_grad_()
    loss = sampler(prompt, embeds(seed=1, dtype=torch.float64), generator=torch.Generator().manual_seed(0)).sum()
    first, second = (torch.autograd.grad(loss, prompt, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second) and sampler._engine.denoiser is read


def test_an_edit_beside_what_a_run_writes_is_seen(pipe):
    storing_hook(pipe)
    sampler = sampler_of(pipe, backend="fast")
    run(sampler)
    pipe.unet.mid_block.output_scale_factor = 2.0
    assert sampler.edited
    assert_true(sampler, pipe)
    images = sampler(embeds(dtype=torch.float64).requires_grad_(), embeds(seed=1, dtype=torch.float64))
    pipe.unet.mid_block.register_forward_hook(lambda module, given, output: 2 * output)
    with pytest.raises(RuntimeError, match="edited between the sampler's call and its backward"):
        images.sum().backward()


def test_the_models_of_a_sampler_cannot_be_set(pipe):
    sampler = sampler_of(pipe, backend="fast")
    with pytest.raises(AttributeError):
        sampler.unet = tiny_sd().unet


def test_nothing_is_read_again_without_an_edit(pipe):
    sampler = sampler_of(pipe, backend="fast")
    lean = sampler._engine.denoiser
    run(sampler)
    pipe.unet.requires_grad_(False).train()  # a model in which all weights require grad would be trained here
    pipe.vae.requires_grad_(False)
    run(sampler)
    assert sampler._engine.denoiser is lean


def test_auto_takes_the_reference_for_an_unknown_model_and_says_why(pipe):
    freeu(pipe)
    sampler = sampler_of(pipe)
    assert sampler.backend == "reference" and sampler.plan is None
    assert sampler.reason == "auto: the UNet runs through its own modules (FreeU (unet.disable_freeu()))"


def test_the_plan_names_the_unknown_part(pipe):
    own_block(pipe)
    pre_hook(pipe)
    sampler = sampler_of(pipe, backend="fast", memory="1GiB")
    assert_true(sampler, pipe)
    assert sampler.plan.levels == ("step",) * 3
    note = str(sampler.plan).splitlines()[-1]
    assert note.startswith("note") and "the UNet runs through its own modules (" in note
    assert "; the VAE runs through its own modules (a hook on decoder)" in note


def test_another_vae_runs_through_its_own_modules(pipe):
    sizes = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    counts = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1), "upsampling_scaling_factor": 2}
    pipe.vae = seeded(lambda: AutoencoderTiny(**sizes, **counts, latent_channels=4)).double()
    sampler = sampler_of(pipe, backend="fast")
    assert_true(sampler, pipe)
    assert "AutoencoderTiny where diffusers' AutoencoderKL was expected" in sampler._engine.unknown


def test_weights_without_numbers_can_be_watched(pipe):
    watch = Watch(pipe.unet.to("meta"))
    assert not watch.edited()
    pipe.unet.conv_in.bias = None
    assert watch.edited()


def test_weights_that_are_not_finite_can_be_watched(pipe):
    pipe.unet.conv_in.weight.data[0] = float("nan")
    watch = Watch(pipe.unet)
    assert not watch.edited()
    pipe.unet.conv_in.weight.data[0] = 1.0
    assert watch.edited()


def test_the_hooks_of_torchs_own_tools_change_nothing(pipe):
    sampler = sampler_of(pipe, backend="fast")
    wanted = run(sampler)
    with FlopCounterMode(display=False):
        assert all(map(torch.equal, run(sampler), wanted))
        assert not sampler._engine.unknown


@pytest.mark.skipif(not hasattr(torch, "float8_e4m3fn"), reason="this torch has no float8")
def test_weights_of_eight_bits_are_watched_by_version() -> None:
    layer = nn.Linear(2, 2, bias=False).requires_grad_(False)
    layer.weight = nn.Parameter(layer.weight.to(torch.float8_e4m3fn), requires_grad=False)
    watch = Watch(layer)
    assert not watch.edited()
    layer.weight.copy_(torch.ones(2, 2))
    assert watch.edited()


def test_an_edit_of_a_weight_that_has_gaps_in_memory_is_noticed():
    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(torch.randn(4, 8)[:, ::2])
    watch = Watch(layer)
    layer.weight.data.neg_()
    assert not layer.weight.is_contiguous() and watch.edited()
