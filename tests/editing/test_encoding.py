"""Pictures as latents: in the precision that diffusers takes, of any autoencoder, refused where they are not finite."""

import copy

import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline

from diffexplain_fast import editing
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.engine.ancestral import ancestral_steps
from diffexplain_fast.errors import NonFiniteError
from diffexplain_fast.models.loading import load_pipeline
from tests.editing.test_exact import pictures
from tests.tiny import seeded, tiny_sd, tiny_sdxl


def _overflowing(pipe: StableDiffusionPipeline, force_upcast: bool) -> StableDiffusionPipeline:
    with torch.no_grad():
        pipe.vae.encoder.conv_in.weight.fill_(3e4)
    pipe.vae.register_to_config(force_upcast=force_upcast)
    return pipe.to(dtype=torch.float16)


def test_a_float16_vae_of_xl_that_overflows_encodes_in_float32() -> None:
    pipe = _overflowing(tiny_sdxl(), force_upcast=True)
    wide, pixels = copy.deepcopy(pipe.vae).float(), pictures(2)
    with torch.no_grad():
        wanted = wide.encode(pixels * 2 - 1).latent_dist.mode() * wide.config.scaling_factor
    found = LatentModels(load_pipeline(pipe)).encode(pixels)
    assert found.dtype == torch.float32 and torch.allclose(found, wanted, rtol=0, atol=1e-5)
    assert next(pipe.vae.parameters()).dtype == torch.float16


@pytest.mark.parametrize("make", [tiny_sd, tiny_sdxl])
def test_latents_that_are_not_finite_are_refused(make) -> None:
    pipe = _overflowing(make(), force_upcast=make is tiny_sd)  # diffusers reads it for XL only
    models = LatentModels(load_pipeline(pipe))
    with pytest.raises(
        NonFiniteError, match=r"vae: wanted finite latents .*, got NaN or infinite ones in torch\.float16"
    ):
        models.encode(pictures(1))
    clean = torch.full((1, *models.pipeline.latent_shape), float("nan"))
    table = ancestral_steps(models.pipeline.scheduler, 2)
    for invert in (editing.invert, editing.invert_reversibly):
        with pytest.raises(ValueError, match="clean: wanted finite numbers, got NaN or infinite ones"):
            invert(models, table, clean, "a boat")


def _with_tiny_autoencoder() -> StableDiffusionPipeline:
    pipe, widths, blocks = tiny_sd(), (8, 8), (1, 1)
    pipe.vae = seeded(
        lambda: AutoencoderTiny(
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            num_encoder_blocks=blocks,
            num_decoder_blocks=blocks,
            scaling_factor=0.5,
        ).eval()
    )
    return pipe


def test_an_autoencoder_without_a_distribution_gives_its_latents() -> None:
    pipe, pixels = _with_tiny_autoencoder(), pictures(2)
    with torch.no_grad():
        wanted = pipe.vae.encode(pixels * 2 - 1).latents * 0.5
    assert torch.allclose(LatentModels(load_pipeline(pipe)).encode(pixels), wanted, rtol=0, atol=1e-5)
    found = editing.reconstruct(pipe, pixels, steps=3)
    assert found.latent_error < 1e-4 and (found.pixels - pixels).abs().max() < 1e-4


@pytest.mark.parametrize("make", [tiny_sd, tiny_sdxl])
def test_latents_have_the_scale_in_which_the_pipeline_decodes_them(make) -> None:
    pipe, pixels, mean, std = make(), pictures(2), [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]
    pipe.vae.register_to_config(latents_mean=mean, latents_std=std, shift_factor=0.25)
    shift, spread = (torch.tensor(one).view(1, 4, 1, 1) if make is tiny_sdxl else one[0] for one in (mean, std))
    with torch.no_grad():
        raw = pipe.vae.encode(pixels * 2 - 1).latent_dist.mode()
    wanted = (raw - (shift if make is tiny_sdxl else 0.0)) / spread * pipe.vae.config.scaling_factor
    models = LatentModels(load_pipeline(pipe))
    found = models.encode(pixels)
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5)
    with torch.no_grad():
        decoded = pipe.vae.decode(raw).sample / 2 + 0.5
    assert torch.allclose(models.decode(found), decoded, rtol=0, atol=1e-4)


def test_a_mean_of_latents_of_another_length_is_refused_as_by_a_sampler() -> None:
    pipe = tiny_sdxl()
    pipe.vae.register_to_config(latents_mean=[0.0] * 5, latents_std=[1.0] * 4)
    message = r"vae\.config\.latents_mean: wanted None or 4 numbers"
    with pytest.raises(ValueError, match=message):
        LatentModels(load_pipeline(pipe))
    with pytest.raises(ValueError, match=message):
        editing.reconstruct(pipe, pictures(1), steps=2)


def test_what_is_no_picture_or_no_latent_is_named() -> None:
    models = LatentModels(load_pipeline(tiny_sd()))
    for pixels in (torch.zeros(0, 3, 16, 16), torch.zeros(1, 1, 16, 16), torch.zeros(3, 16, 16)):
        with pytest.raises(ValueError, match=r"pixels: wanted pixels \[B, 3, H, W\] in \[0, 1\] of at least one"):
            models.encode(pixels)
    with pytest.raises(ValueError, match="pixels: wanted finite numbers"):
        models.encode(torch.full((1, 3, 16, 16), float("nan")))
    with pytest.raises(TypeError, match="pixels: wanted pixels"):
        models.encode("fish.png")  # type: ignore[arg-type]
    for latents in (torch.zeros(0, 4, 8, 8), torch.zeros(1, 3, 8, 8), torch.zeros(1, 4, 8, 8, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"latents: wanted latents \[B, 4, h, w\], floating point, got"):
            models.decode(latents)
