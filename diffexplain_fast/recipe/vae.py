"""The autoencoder: 64 by 64 pixels to 16 by 16 latents of 16 channels and back."""

import numpy as np
import torch
from diffusers import AutoencoderKL

from diffexplain_fast.recipe.data import Scenes
from diffexplain_fast.recipe.training import Batch, Loss, Plan

PLAN = Plan(steps=8000, batch=24, rate=2e-3, decay=0.0, average=0.998, half=True)
DETAILS_PLAN = Plan(steps=4000, batch=24, rate=1.5e-3, decay=0.0, average=0.998, half=True)
"""After ``PLAN``: by then all is there except what is in few pixels, and pixels begin to weigh by their elements."""
CHANNELS = 16
"""Of the latents: eight lose the dots of small objects, which caps every edit that passes through them."""
LATENTS = (CHANNELS, 16, 16)
_KL_WEIGHT = 3e-7
"""Of the sum over a picture's latents. One more nat pays until errors are as small as this times the number of values
of a picture: 0.5/255. At 2e-6 it was 3/255, and eleven of the sixteen channels said nothing."""
_SQUARE_WEIGHT = 2.0
_ENCODE_BATCH = 25
DECODER_PLAN = Plan(steps=3000, batch=24, rate=1.5e-3, decay=0.0, average=0.995, half=True)
AGAIN_PLAN = Plan(steps=1000, batch=24, rate=1e-3, decay=0.0, average=0.995, half=True)
"""After ``DECODER_PLAN``, with its rate raised once more (Loshchilov and Hutter 2017, "SGDR")."""
_EDGE_WEIGHT = 0.5
_MOST_WEIGHT = 12.0
"""Of a pixel of a small element; a background's pixels weigh about 1."""
_LATENT_NOISE = 0.02
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


def vae_loss(vae: AutoencoderKL, scenes: Scenes, batch: int, weigh: bool) -> Loss:
    """Return the loss: errors of pixels and edges, and a little KL; ``weigh`` says whether pixels weigh by elements."""

    def draw(rng: np.random.Generator, generator: torch.Generator) -> Batch:
        rows = torch.from_numpy(rng.integers(len(scenes.pixels), size=batch))
        noise = torch.randn((batch, *LATENTS), generator=generator)
        weights = pixel_weights(scenes.elements[rows]) if weigh else torch.ones(batch, 1, 1, 1)
        return {"pixels": scenes.pixels[rows], "noise": noise, "weights": weights}

    def loss(batch: Batch) -> torch.Tensor:
        pixels = batch["pixels"].float() / 127.5 - 1
        posterior = vae.encode(pixels).latent_dist
        error = vae.decode(posterior.mean + posterior.std * batch["noise"]).sample - pixels
        return _pixel_loss(error, batch["weights"]) + _KL_WEIGHT * posterior.kl().mean()

    return Loss(draw, loss)


def decoder_loss(vae: AutoencoderKL, scenes: Scenes, latents: torch.Tensor, batch: int) -> Loss:
    """Return the loss of only the decoder, on fixed latents: pixel errors, and the error of edges for sharpness."""

    def draw(rng: np.random.Generator, generator: torch.Generator) -> Batch:
        rows = torch.from_numpy(rng.integers(len(latents), size=batch))
        noise = _LATENT_NOISE * torch.randn(latents[rows].shape, generator=generator)
        weights = pixel_weights(scenes.elements[rows])
        return {"pixels": scenes.pixels[rows], "latents": latents[rows] + noise, "weights": weights}

    def loss(batch: Batch) -> torch.Tensor:
        pixels = batch["pixels"].float() / 127.5 - 1
        error = vae.decode(batch["latents"] / vae.config.scaling_factor).sample - pixels
        return _pixel_loss(error, batch["weights"])

    return Loss(draw, loss)


def pixel_weights(elements: torch.Tensor) -> torch.Tensor:
    """Return what pixels weigh: an element of a picture weighs as much as the square root of its area.

    The texture of a small object is in one pixel of a hundred: where all pixels weigh the same, its dots are the
    cheapest thing to leave out.

    Args:
        elements: label maps, uint8 [B, H, W].

    Returns:
        float32 [B, 1, H, W], at most ``_MOST_WEIGHT`` before every picture's mean is made 1.
    """
    batch, height, width = elements.shape
    flat = elements.reshape(batch, -1).long()
    counts = torch.zeros(batch, 256).scatter_add_(1, flat, torch.ones(flat.shape))
    weights = (height * width / counts.gather(1, flat)).sqrt().clamp(max=_MOST_WEIGHT)
    return (weights / weights.mean(dim=1, keepdim=True)).view(batch, 1, height, width)


def _pixel_loss(error: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Absolute and squared error of pixels [B, 3, H, W], and of edges, for sharpness; weights [B, 1, H, W]."""
    weights = weights.expand_as(error)
    down = (weights[:, :, 1:] * error.diff(dim=2).abs()).mean()
    across = (weights[..., 1:] * error.diff(dim=3).abs()).mean()
    pixels = (weights * (error.abs() + _SQUARE_WEIGHT * error.square())).mean()
    return pixels + _EDGE_WEIGHT * (down + across)


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
