"""What is between the denoiser's latents and the VAE's: as diffusers' own pipelines of 1.x, 2.x and XL have it."""

import pytest
import torch

from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.engine.accelerated import accelerate
from diffexplain_fast.models.loading import load_pipeline
from tests.engine.plain import relative
from tests.engine.samplers import embeds, own_pictures, seed
from tests.tiny import tiny_sd, tiny_sdxl

MEAN, STD = [0.4, -0.3, 0.2, 0.1], [0.5, 1.5, 2.0, 0.7]
OPTIONS = {
    "shift": {"shift_factor": 0.25, "scaling_factor": 0.5},
    "both": {"latents_mean": MEAN, "latents_std": STD},
    "mean alone": {"latents_mean": MEAN},
    "all": {"shift_factor": 0.25, "latents_mean": MEAN, "latents_std": STD, "scaling_factor": 0.5},
}
ACTS = {("sdxl", "both"), ("sdxl", "all")}
"""Pipelines and options of which a mean and a deviation act."""


def pipeline(kind: str, options: str, own_modules: bool = False):
    pipe = {"sd": tiny_sd, "sdxl": tiny_sdxl}[kind]()
    pipe.set_progress_bar_config(disable=True)
    pipe.vae.register_to_config(force_upcast=False, **OPTIONS[options])
    if own_modules:
        pipe.vae.decoder.register_forward_hook(lambda part, given, output: None)
    return pipe


def texts(kind: str):
    width = 40 if kind == "sdxl" else 16
    given = {"prompt_embeds": embeds(2, width), "negative_prompt_embeds": embeds(2, width, seed=1)}
    if kind == "sdxl":
        draw = torch.Generator().manual_seed(2)
        for name in ("pooled_prompt_embeds", "negative_pooled_prompt_embeds"):
            given[name] = torch.randn(2, 24, generator=draw)
    return given


@pytest.mark.parametrize("way", ["fast", "own modules", "reference"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_pictures_are_those_of_the_pipeline(kind: str, options: str, way: str) -> None:
    pipe, given = pipeline(kind, options, way == "own modules"), texts(kind)
    backend = "reference" if way == "reference" else "fast"
    sampler = accelerate(pipe, backend=backend, num_inference_steps=2, guidance_scale=3.0)
    more = {name: value for name, value in given.items() if "pooled" in name}
    prompts = given["prompt_embeds"], given["negative_prompt_embeds"]
    with torch.no_grad():
        got = sampler(**given, generator=seed())
        wanted = own_pictures(pipe, *prompts, num_inference_steps=2, **more)
        assert relative(got.clamp(0, 1), wanted) <= 1e-5
        latents = own_pictures(pipe, *prompts, num_inference_steps=2, output_type="latent", **more)
        assert relative(sampler.single_calls().decode(latents), got) <= 1e-5


def test_a_plan_counts_a_mean_and_a_deviation() -> None:
    sampler, given = accelerate(pipeline("sdxl", "both"), backend="fast", memory="1GiB"), texts("sdxl")
    given["prompt_embeds"].requires_grad_()
    found = []
    for backend in (sampler, accelerate(pipeline("sdxl", "both"), backend="reference")):
        images = backend(**given, generator=seed(), num_inference_steps=2)
        found.append(torch.autograd.grad(images.square().sum(), given["prompt_embeds"])[0])
    assert relative(*found) <= 1e-4 and sampler.plan is not None


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_an_encoder_gives_the_latents_that_the_decoder_reads(kind: str, options: str) -> None:
    pipe = pipeline(kind, options)
    pixels = torch.rand(2, 3, 16, 16, generator=seed())
    with torch.no_grad():
        raw = pipe.vae.encode(2 * pixels - 1).latent_dist.mean
    factor = pipe.vae.config.scaling_factor
    wanted = raw * factor
    if (kind, options) in ACTS:  # as diffusers' image-to-image pipeline of XL
        mean, std = (torch.tensor(values).view(1, 4, 1, 1) for values in (MEAN, STD))
        wanted = (raw - mean) * factor / std
    models = LatentModels(load_pipeline(pipe))
    latents = models.encode(pixels)
    assert relative(latents, wanted) <= 1e-6
    assert relative(models.decode(latents), pipe.vae.decode(raw).sample.detach() / 2 + 0.5) <= 1e-5


def test_a_mean_of_another_number_of_channels_is_refused_by_name() -> None:
    pipe = pipeline("sdxl", "both")
    pipe.vae.register_to_config(latents_mean=[0.0] * 16)
    with pytest.raises(ValueError, match=r"^vae\.config\.latents_mean: wanted None or 4 numbers"):
        accelerate(pipe)
