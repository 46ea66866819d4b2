"""Bad modules, options and arguments of the sampler: each is refused with what was wanted and what was got."""

import copy
import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel

from diffexplain_fast.engine.checks import check_ready, is_limited
from diffexplain_fast.engine.options import SamplerOptions
from diffexplain_fast.engine.sampler import DifferentiableSampler
from tests.engine.samplers import embeds, sampler_of
from tests.tiny import tiny_sd, tiny_sdxl, tiny_unet


@pytest.fixture(scope="module")
def pipe():
    return tiny_sd()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backend": "quick"}, ValueError, "backend: wanted 'auto', 'reference' or 'fast', got 'quick'"),
        ({"backend": None}, TypeError, "backend: wanted .*, got NoneType"),
        ({"memory": "8GiB", "backend": "reference"}, ValueError, "memory: wanted .*backend='reference'.*, got '8GiB'"),
        ({"memory": "8 gigabytes"}, ValueError, "memory: wanted .*'8GiB', got '8 gigabytes'"),
        ({"memory": 0}, ValueError, "memory: wanted .*got 0"),
        ({"memory": 1.5}, TypeError, "memory: wanted .*got float"),
        ({"guidance_scale": float("nan")}, ValueError, "guidance_scale: wanted a finite number .*, got nan"),
        ({"guidance_scale": float("inf")}, ValueError, "guidance_scale: wanted a finite number .*, got inf"),
        ({"guidance_scale": 0.0}, ValueError, "at least 1.0, which means no guidance"),
        ({"guidance_scale": "7"}, TypeError, "guidance_scale: wanted a number, got str"),
        ({"num_inference_steps": 0}, ValueError, "num_inference_steps: wanted 1 to 1000 .*, got 0"),
        ({"num_inference_steps": 2.5}, TypeError, "num_inference_steps: wanted a whole number, got float"),
        (
            {"gradient": "some"},
            ValueError,
            "gradient: wanted a mode of diffexplain_fast.gradients, "
            "or 'full', 'checkpointed', 'last:K', 'detached' or 'shortcut:K', got",
        ),
        ({"gradient": "last:0"}, ValueError, "K of 1 to 2, the number of steps, got 'last:0'"),
        ({"gradient": "last:3"}, ValueError, "K of 1 to 2, the number of steps, got 'last:3'"),
        (
            {"gradient": "shortcut:3"},
            ValueError,
            "'shortcut:K' with K of 1 to 2, the number of steps, got 'shortcut:3'",
        ),
        ({"gradient": "shortcut"}, ValueError, "gradient: wanted"),
        ({"gradient": "last:-1"}, ValueError, "gradient: wanted"),
        ({"gradient": None}, TypeError, "gradient: wanted .*, got NoneType"),
    ],
)
def test_a_bad_option_of_a_sampler_is_refused_by_name(pipe, options, error, message):
    with pytest.raises(error, match=message):
        sampler_of(pipe, **options)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prompt_embeds": "a boat"}, TypeError, "prompt_embeds: wanted a tensor, got str"),
        ({"prompt_embeds": embeds()[0]}, ValueError, r"prompt_embeds: wanted shape \[B, L, 16\], got \[5, 16\]"),
        ({"prompt_embeds": embeds(width=8)}, ValueError, r"prompt_embeds: wanted shape \[B, L, 16\], got \[1, 5, 8\]"),
        ({"prompt_embeds": embeds()[:0]}, ValueError, "prompt_embeds: wanted shape"),
        ({"prompt_embeds": embeds().double()}, ValueError, "prompt_embeds: wanted dtype torch.float32.*float64"),
        ({"prompt_embeds": embeds(device="meta")}, ValueError, "prompt_embeds: wanted device cpu.*got meta"),
        ({"negative_prompt_embeds": None}, ValueError, "negative_prompt_embeds: wanted .*guidance_scale 3.0.*got None"),
        ({"negative_prompt_embeds": embeds(2)}, ValueError, r"negative_prompt_embeds: wanted shape \[1 or 3, 5, 16\]"),
        ({"negative_prompt_embeds": embeds().double()}, ValueError, "negative_prompt_embeds: wanted dtype"),
        ({"latents": [0.0]}, TypeError, "latents: wanted a tensor, got list"),
        ({"latents": torch.zeros(3, 4, 8)}, ValueError, r"latents: wanted shape \[3, 4, h, w\], got \[3, 4, 8\]"),
        ({"latents": torch.zeros(2, 4, 8, 8)}, ValueError, r"latents: wanted shape \[3, 4, h, w\], got \[2, 4, 8, 8\]"),
        ({"latents": torch.zeros(3, 3, 8, 8)}, ValueError, "latents: wanted shape"),
        ({"latents": torch.zeros(3, 4, 8, 8).int()}, ValueError, "latents: wanted dtype torch.float32"),
        ({"latents": torch.zeros(3, 4, 8, 8, device="meta")}, ValueError, "latents: wanted device cpu"),
        ({"generator": 3}, TypeError, "generator: wanted a torch.Generator, got int"),
        ({"pooled_prompt_embeds": torch.zeros(3, 24)}, ValueError, "pooled_prompt_embeds: wanted None"),
        ({"time_ids": torch.zeros(1, 6)}, ValueError, "time_ids: wanted None"),
    ],
)
def test_a_bad_argument_of_a_call_is_refused_by_name(pipe, arguments, error, message):
    usual = {"prompt_embeds": embeds(3), "negative_prompt_embeds": embeds(seed=1)}
    with pytest.raises(error, match=message):
        sampler_of(pipe)(**(usual | arguments))


def test_a_negative_prompt_is_not_read_without_guidance(pipe):
    sampler, latents = sampler_of(pipe), torch.zeros(1, 4, 8, 8)
    found = [sampler(embeds(), given, latents, guidance_scale=1.0) for given in (None, ["a"], embeds(7).double())]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooled_prompt_embeds": None}, r"pooled_prompt_embeds: wanted \[1, p\].*got None"),
        ({"pooled_prompt_embeds": torch.zeros(2, 24)}, r"pooled_prompt_embeds: wanted shape \[1, p\], got \[2, 24\]"),
        ({"negative_pooled_prompt_embeds": None}, "negative_pooled_prompt_embeds: wanted .*got None"),
        ({"negative_pooled_prompt_embeds": torch.zeros(1, 8)}, "negative_pooled_prompt_embeds: wanted shape"),
        ({"time_ids": torch.zeros(1, 4)}, r"time_ids: wanted shape \[1 or 1, 6\], got \[1, 4\]"),
    ],
)
def test_a_bad_argument_of_an_xl_call_is_refused_by_name(arguments, message):
    usual = {"pooled_prompt_embeds": torch.zeros(1, 24), "negative_pooled_prompt_embeds": torch.zeros(1, 24)}
    with pytest.raises(ValueError, match=message):
        sampler_of(tiny_sdxl(), "euler")(embeds(width=40), embeds(width=40), **(usual | arguments))


@pytest.mark.parametrize(
    ("unet", "message"),
    [
        ({"in_channels": 9}, "unet: wanted 4 channels in and out.*got 9 in and 4 out"),
        ({"out_channels": 8}, "unet: wanted 4 channels in and out.*got 4 in and 8 out"),
        ({"time_cond_proj_dim": 8}, "unet.config.time_cond_proj_dim: wanted no guidance embedding"),
        ({"num_class_embeds": 3}, "unet.config.num_class_embeds: wanted no class embedding"),
        ({"encoder_hid_dim": 24}, "encoder_hid_dim_type: wanted no projection of a text .*got text_proj"),
        ({"addition_embed_type": "text"}, "addition_embed_type: wanted None or 'text_time', got 'text'"),
    ],
)
def test_a_unet_that_needs_other_inputs_is_refused(pipe, unet, message):
    with pytest.raises(ValueError, match=message):
        sampler_of(SimpleNamespace(unet=tiny_unet(16, **unet), vae=pipe.vae))


@pytest.mark.parametrize("backend", ["fast", "reference"])
@pytest.mark.parametrize("part", ["unet", "vae"])
def test_weights_in_which_torch_does_not_compute_are_refused(part, backend):
    pipe = tiny_sd()
    sampler = sampler_of(pipe, backend=backend)
    getattr(pipe, part).enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    wanted = rf"{part}: wanted weights in .*without enable_layerwise_casting\), got torch.float8_e4m3fn"
    with pytest.raises(ValueError, match=wanted):
        sampler(embeds(), embeds(seed=1))
    with pytest.raises(ValueError, match=wanted):
        sampler_of(pipe, backend=backend)


def test_modules_that_are_not_unet_and_vae_are_refused(pipe):
    with pytest.raises(TypeError, match="unet: wanted a diffusers UNet2DConditionModel, got function"):
        sampler_of(SimpleNamespace(unet=embeds, vae=pipe.vae))
    textless = UNet2DModel(block_out_channels=(32,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",))
    with pytest.raises(TypeError, match="unet: wanted a diffusers UNet2DConditionModel, got UNet2DModel"):
        sampler_of(SimpleNamespace(unet=textless, vae=pipe.vae))
    with pytest.raises(TypeError, match="vae: wanted a diffusers AutoencoderKL, got Linear"):
        sampler_of(SimpleNamespace(unet=pipe.unet, vae=torch.nn.Linear(1, 1)))
    with pytest.raises(TypeError, match="pipe: wanted a pipeline with unet, vae and scheduler, got UNet2DCondition"):
        DifferentiableSampler.from_pipe(pipe.unet)
    with pytest.raises(ValueError, match="vae: wanted device cpu, where the unet is, got meta"):
        check_ready(pipe.unet, copy.deepcopy(pipe.vae).to("meta"), ())


def test_the_modules_own_checkpointing_is_refused():
    pipe = tiny_sd()
    pipe.unet.enable_gradient_checkpointing()
    with pytest.raises(ValueError, match=r"unet.disable_gradient_checkpointing\(\) and gradient='checkpointed'"):
        sampler_of(pipe)(embeds().requires_grad_(), embeds(seed=1))
    with torch.no_grad():
        assert sampler_of(pipe)(embeds(), embeds(seed=1)).isfinite().all()


@pytest.mark.parametrize("backend", ["fast", "reference"])
@pytest.mark.parametrize("part", ["unet", "vae"])
def test_weights_made_in_inference_mode_sample_without_a_graph_and_are_refused_with_one(part, backend):
    """Autograd computes no gradient through them, and does not let their flags be put back."""
    pipe = tiny_sd()
    options = {"backend": backend, "num_inference_steps": 1, "guidance_scale": 1.0}
    given = {"prompt_embeds": embeds(), "latents": torch.ones(1, 4, 8, 8)}
    with torch.no_grad():
        wanted = sampler_of(pipe, **options)(**given)
    with torch.inference_mode():
        setattr(pipe, part, copy.deepcopy(getattr(pipe, part)))
    sampler = sampler_of(pipe, **options)
    with torch.no_grad():
        assert torch.equal(sampler(**given), wanted)
    with pytest.raises(ValueError, match=rf"{part}: wanted a {part} loaded outside torch.inference_mode\(\)"):
        sampler(**given)
    assert all(weight.requires_grad for weight in getattr(pipe, part).parameters())


@pytest.mark.parametrize("backend", ["fast", "reference"])
@pytest.mark.parametrize("part", ["unet", "vae"])
def test_frozen_weights_made_in_inference_mode_are_refused_only_if_a_gradient_is_asked_for(part, backend):
    pipe = tiny_sd()
    with torch.inference_mode():
        setattr(pipe, part, copy.deepcopy(getattr(pipe, part)).requires_grad_(False))
    sampler = sampler_of(pipe, backend=backend, num_inference_steps=1, guidance_scale=1.0)
    given = {"prompt_embeds": embeds(), "latents": torch.ones(1, 4, 8, 8)}
    with torch.no_grad():
        wanted = sampler(**given)
    images = sampler(**given)
    assert torch.equal(images, wanted) and not images.requires_grad
    for name, value in given.items():
        with pytest.raises(ValueError, match=f"{part}: wanted a {part} loaded outside"):
            sampler(**given | {name: value.clone().requires_grad_()})
    trained = pipe.vae.requires_grad_(False).decoder if part == "unet" else pipe.unet.requires_grad_(False)
    trained.conv_out.requires_grad_(True)
    if part == "unet":  # no gradient flows through it to the VAE
        sampler(**given).sum().backward()
        assert trained.conv_out.bias.grad.norm() > 0
    else:
        with pytest.raises(ValueError, match="vae: wanted a vae loaded outside"):
            sampler(**given)


def test_only_a_planning_backend_with_a_limit_works_under_a_limit():
    assert is_limited("fast", "8GiB", "cpu") and is_limited("auto", "auto", "cuda:0")
    assert not is_limited("auto", "auto", "cpu") and not is_limited("fast", None, "cuda")
    assert not is_limited("reference", "auto", "cuda")


@pytest.mark.parametrize(("backend", "plans"), [("fast", True), ("auto", True), ("reference", False)])
def test_memory_is_planned_by_the_fast_engine_only(pipe, backend, plans):
    assert sampler_of(pipe, backend=backend).plans_memory is plans


def test_calls_are_recorded_by_the_fast_engine_only_and_where_they_may_be(pipe):
    assert sampler_of(pipe, backend="fast").records_calls
    assert not sampler_of(pipe, backend="fast", cuda_graphs=False).records_calls
    assert not sampler_of(pipe, backend="reference").records_calls


def test_numbers_of_numpy_are_numbers():
    sampler = sampler_of(
        tiny_sd(), num_inference_steps=np.int64(2), guidance_scale=np.float32(3), memory=np.int64(2**33)
    )
    assert (sampler.num_inference_steps, sampler.guidance_scale) == (2, 3.0)
    assert type(sampler.num_inference_steps) is int and type(sampler.guidance_scale) is float


def test_the_typed_options_are_the_arguments_of_the_sampler() -> None:
    arguments = inspect.signature(DifferentiableSampler).parameters.keys() - {"unet", "vae", "scheduler"}
    assert SamplerOptions.__annotations__.keys() == arguments
