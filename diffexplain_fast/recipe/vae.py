"""The autoencoder: 64 by 64 pixels to 16 by 16 latents of 16 channels and back."""

import numpy as np
import torch
from diffusers import AutoencoderKL

from diffexplain_fast.recipe.data import Scenes
from diffexplain_fast.recipe.training import Batch, Loss, Plan

PLAN = Plan(steps=8000, batch=24, rate=2e-3, decay=0.0, average=0.998, half=True)
CHANNELS = 16
"""Of the latents: eight lose the dots of small objects, which caps every edit that passes through them."""
LATENTS = (CHANNELS, 16, 16)
_KL_WEIGHT = 3e-7
"""Of the sum over a picture's latents. One more nat pays until errors are as small as this times the number of values
of a picture: 0.5/255. At 2e-6 it was 3/255, and eleven of the sixteen channels said nothing."""
_SQUARE_WEIGHT = 2.0
_ENCODE_BATCH = 25
DECODER_PLAN = Plan(steps=3000, batch=24, rate=1.5e-3, decay=0.0, average=0.995, half=True)
_EDGE_WEIGHT = 0.5
_LATENT_NOISE = 0.05
"""Noise on unit-variance latents, so that the decoder forgives a denoiser that is slightly off."""


def build_vae() -> AutoencoderKL:
    """Return the untrained autoencoder."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=CHANNELS,
        sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
    )


def vae_loss(vae: AutoencoderKL, scenes: Scenes, batch: int) -> Loss:
    """Return the loss: errors of pixels and edges, and a little KL."""

    def draw(rng: np.random.Generator, generator: torch.Generator) -> Batch:
        rows = torch.from_numpy(rng.integers(len(scenes.pixels), size=batch))
        return {"pixels": scenes.pixels[rows], "noise": torch.randn((batch, *LATENTS), generator=generator)}

    def loss(batch: Batch) -> torch.Tensor:
        pixels = batch["pixels"].float() / 127.5 - 1
        posterior = vae.encode(pixels).latent_dist
        error = vae.decode(posterior.mean + posterior.std * batch["noise"]).sample - pixels
        return _pixel_loss(error) + _KL_WEIGHT * posterior.kl().mean()

    return Loss(draw, loss)


def decoder_loss(vae: AutoencoderKL, scenes: Scenes, latents: torch.Tensor, batch: int) -> Loss:
    """Return the loss of only the decoder, on fixed latents: pixel errors, and the error of edges for sharpness."""

    def draw(rng: np.random.Generator, generator: torch.Generator) -> Batch:
        rows = torch.from_numpy(rng.integers(len(latents), size=batch))
        noise = _LATENT_NOISE * torch.randn(latents[rows].shape, generator=generator)
        return {"pixels": scenes.pixels[rows], "latents": latents[rows] + noise}

    def loss(batch: Batch) -> torch.Tensor:
        pixels = batch["pixels"].float() / 127.5 - 1
        error = vae.decode(batch["latents"] / vae.config.scaling_factor).sample - pixels
        return _pixel_loss(error)

    return Loss(draw, loss)


def _pixel_loss(error: torch.Tensor) -> torch.Tensor:
    """Absolute and squared error of pixels [B, 3, H, W], and the error of edges, for sharpness."""
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + _SQUARE_WEIGHT * error.square().mean() + _EDGE_WEIGHT * edges


@torch.no_grad()
def encode_scenes(vae: AutoencoderKL, scenes: Scenes) -> tuple[torch.Tensor, float]:
    """Return the latent means of all scenes, scaled to unit variance [N, 16, 16, 16], and the scaling factor."""
    parts = []
    for rows in scenes.pixels.split(_ENCODE_BATCH):
        pixels = rows.to(vae.device).float() / 127.5 - 1
        parts.append(vae.encode(pixels).latent_dist.mean.cpu())
    latents = torch.cat(parts)
    factor = 1 / latents.std().item()
    return (latents * factor).contiguous(), factor
