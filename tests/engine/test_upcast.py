"""A float16 VAE that asks for float32 decodes in float32 where diffusers' pipeline would: exactly, and counted."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch.nn.utils.prune import l1_unstructured

from diffexplain_fast.engine.accelerated import accelerate
from diffexplain_fast.models.frozen import copied
from diffexplain_fast.models.xl import decodes_in_float32, decoding_vae
from tests.engine.plain import make_scheduler
from tests.engine.samplers import embeds
from tests.tiny import tiny_sd, tiny_sdxl


@pytest.fixture
def pipe():
    """A float16 XL whose decoder overflows in float16."""
    made = tiny_sdxl()
    made.scheduler = make_scheduler("ddim")
    made.vae.register_to_config(force_upcast=True)
    with torch.no_grad():
        made.vae.decoder.conv_in.weight.mul_(2e5)
    for part in (made.unet, made.vae):
        part.half()
    return made


def parts_of(pipe, **more):
    return SimpleNamespace(**{"unet": pipe.unet, "vae": pipe.vae, "scheduler": pipe.scheduler, **more})


def drawn(pipe, **options):
    """Images and the prompt's gradient of two images."""
    options = {"num_inference_steps": 2, "guidance_scale": 2.0, **options}
    prompt = embeds(2, width=40).half().requires_grad_()
    sampler = accelerate(pipe, **options)
    pooled = dict(zip(("pooled_prompt_embeds", "negative_pooled_prompt_embeds"), torch.ones(2, 1, 24), strict=True))
    pooled = {name: value.half().expand(2, -1) for name, value in pooled.items()}
    generator = torch.Generator().manual_seed(0)
    images = sampler(prompt, embeds(width=40, seed=1).half(), generator=generator, **pooled)
    weights = torch.linspace(-1, 1, images.numel()).view_as(images).to(images.dtype)
    (gradient,) = torch.autograd.grad((images * weights).mean(), prompt)
    return sampler, images.detach(), gradient


@pytest.mark.parametrize("backend", ["fast", "reference"])
@pytest.mark.parametrize("gradient", ["full", "checkpointed"])
@pytest.mark.parametrize("tiled", [False, True], ids=["whole", "tiled"])
def test_a_float16_vae_with_force_upcast_decodes_as_a_float32_vae(pipe, backend, gradient, tiled):
    if tiled:
        pipe.vae.enable_slicing()
    wide = parts_of(pipe, vae=copy.deepcopy(pipe.vae).float())
    before = [(weight.data_ptr(), weight.dtype, weight._version) for weight in pipe.vae.parameters()]
    options = {"backend": backend, "gradient": gradient}
    _, images, found = drawn(pipe, **options)
    _, wanted, by_hand = drawn(wide, **options)
    assert images.dtype == torch.float32 and images.isfinite().all()
    assert torch.equal(images, wanted) and torch.equal(found, by_hand) and found.norm() > 0
    assert [(weight.data_ptr(), weight.dtype, weight._version) for weight in pipe.vae.parameters()] == before


@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_a_pruned_vae_decodes_in_float32_too(pipe, backend):
    l1_unstructured(pipe.vae.decoder.conv_in, "weight", 0.5)
    pipe.vae.decode(torch.ones(1, 4, 8, 8).half())  # leaves a weight with a graph
    wide = parts_of(pipe, vae=copied(pipe.vae).float())
    (_, *got), (_, *wanted) = (drawn(models, backend=backend) for models in (pipe, wide))
    assert all(map(torch.equal, got, wanted)) and got[0].dtype == torch.float32


@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_the_float32_copy_follows_an_edit_of_the_vae(pipe, backend):
    options = {"num_inference_steps": 1, "guidance_scale": 1.0, "backend": backend}
    bias, pooled = pipe.vae.decoder.conv_out.bias, torch.ones(1, 24).half()
    torch.nn.init.zeros_(bias)
    sampler = accelerate(pipe, **options)
    given = {"latents": torch.ones(1, 4, 8, 8).half(), "pooled_prompt_embeds": pooled}
    before = sampler(embeds(width=40).half(), **given)
    torch.nn.init.constant_(bias, 0.25)
    after = sampler(embeds(width=40).half(), **given)
    torch.testing.assert_close(after, before + 0.125)


@pytest.mark.parametrize("tiled", [False, True], ids=["lean", "own modules"])
def test_the_plan_counts_the_float32_copy(pipe, tiled):
    if tiled:
        pipe.vae.enable_slicing()
    copied = sum(weight.nbytes for weight in decoding_vae(pipe.unet, pipe.vae).parameters())
    asks, _, _ = drawn(pipe, memory="1GiB")
    pipe.vae.register_to_config(force_upcast=False)
    with torch.no_grad():
        pipe.vae.decoder.conv_in.weight.div_(2e5)
    plain, _, _ = drawn(pipe, memory="1GiB")
    more, less = (plan.plan.parts.get("weights in other layouts", 0) for plan in (asks, plain))
    assert more - less >= 0.9 * copied  # a plain VAE's own other layouts are of half the size
    if tiled:
        assert more - less == copied


def test_a_call_that_runs_again_decodes_in_float32_too(pipe):
    with torch.no_grad():
        pipe.unet.conv_in.weight.mul_(6e4)
    for dtype in (torch.bfloat16, torch.float32):
        with pytest.warns(RuntimeWarning, match="the call runs again"):
            sampler, images, gradient = drawn(pipe, retry_dtype=dtype)
        assert images.dtype == torch.float32 and images.isfinite().all()
        assert not torch.equal(images, images.bfloat16().float())  # finer than what a bfloat16 decoder can say
        assert gradient.dtype == torch.float16 and gradient.isfinite().all()
        assert sampler.record()["retried_calls"] == 1


def test_only_xl_with_force_upcast_in_float16_decodes_in_float32(pipe):
    plain = tiny_sd()
    plain.vae.register_to_config(force_upcast=True)
    plain.vae.half()
    assert decodes_in_float32(pipe.unet, pipe.vae)
    assert not decodes_in_float32(plain.unet, plain.vae)  # the pipelines of 1.x and 2.x never do
    assert decoding_vae(plain.unet, plain.vae) is plain.vae
    assert not decodes_in_float32(pipe.unet, copy.deepcopy(pipe.vae).bfloat16())
    assert not decodes_in_float32(pipe.unet, copy.deepcopy(pipe.vae).float())
    pipe.vae.register_to_config(force_upcast=False)
    assert not decodes_in_float32(pipe.unet, pipe.vae)
