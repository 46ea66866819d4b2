"""How well captions explain a picture to the denoiser itself: its error, over a few levels of noise."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.engine.ancestral import ancestral_steps
from diffexplain_fast.evidence.seeds import normal, seeded_generator

LEVELS = 4
"""Noisy versions of a picture; each caption runs one row for each."""


def denoiser_errors(models: LatentModels, clean: Tensor, captions: Sequence[str], levels: int = LEVELS) -> Tensor:
    """Return the mean squared error [n] of the clean latent that the denoiser predicts, for each caption.

    All captions see the same noise, so that their differences are not those of the noise.

    Args:
        models: encoder, denoiser and decoder.
        clean: latent [1, c, h, w] of the picture.
        captions: n captions.
        levels: noisy versions; the noisiest and the cleanest of evenly spaced ones are left out.

    Source: Li et al., "Your diffusion model is secretly a zero-shot classifier" (arXiv 2303.16203), eq. 5.
    """
    table = ancestral_steps(models.pipeline.scheduler, levels + 2)
    total = torch.zeros(len(captions), device=clean.device)
    text = models.text(captions)
    for i in range(1, levels + 1):
        signal, step = table.signals[i], table.steps[i]
        noise = normal(seeded_generator(0, "editing/errors", i), *clean.shape[1:]).to(clean.device)
        sample = (signal * clean + (1 - signal**2) ** 0.5 * noise).expand(len(captions), -1, -1, -1)
        output = models.predict(sample, [step.timestep] * len(captions), text)
        predicted = step.clean[0] * sample + step.clean[1] * output
        # In units of the noise, as the denoiser was trained: a clean sample is easy to predict from little noise.
        total += (predicted - clean).square().mean((1, 2, 3)) * signal**2 / (1 - signal**2)
    return total / levels
