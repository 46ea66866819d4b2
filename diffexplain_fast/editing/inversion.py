"""Edit-friendly inversion: a picture as noisy samples and the residuals that lead from one to the next, exactly."""

from typing import NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.engine.ancestral import Ancestral
from diffexplain_fast.evidence.seeds import normal, seeded_generator


class Inversion(NamedTuple):
    """A picture on its way from noise.

    Attributes:
        table: the N steps.
        samples: [N + 1, c, h, w], the noisiest first; the last is the picture's own latent.
        residuals: [N, c, h, w], what each step needs beside the denoiser's mean to reach the next sample.
        caption: the source caption; None for the unconditional row.
    """

    table: Ancestral
    samples: Tensor
    residuals: Tensor
    caption: str | None


def invert(models: LatentModels, table: Ancestral, clean: Tensor, caption: str | None, seed: int = 0) -> Inversion:
    """Invert a picture; replaying the residuals with the source caption gives it back exactly, for equal arithmetic.

    Every noisy sample has noise of its own, x_i = s_i x_0 + sqrt(1 - s_i^2) e_i, and

        residual_i = x_{i+1} - mean(x_i, denoiser(x_i, source))

    is kept as it is: nothing is divided by the standard deviation of a step, which is 0 at the last. All samples are
    known at once, so the denoiser runs them in one batch.

    Args:
        models: encoder, denoiser and decoder.
        table: the steps, from ``ancestral_steps``.
        clean: the picture's latent [1, c, h, w].
        caption: of the picture as it is; None for the unconditional row.
        seed: decides the noise.

    Returns:
        The samples, the noisiest first, and the residual of every step.

    Source: Huberman-Spiegelglas et al. (arXiv 2304.06140), eqs. 4 and 5, with the residual in place of the noise map.
    """
    shape = clean.shape[1:]
    noises = [normal(seeded_generator(seed, "editing/inversion", i), *shape) for i in range(len(table.steps))]
    signals = torch.tensor(table.signals, dtype=torch.float32, device=clean.device).view(-1, 1, 1, 1)
    noisy = signals * clean + (1 - signals**2).sqrt() * torch.stack(noises).to(clean.device)
    outputs = models.predict(noisy, [step.timestep for step in table.steps], models.text([caption]))
    samples = torch.cat([noisy, clean])
    means = [step.sample * x + step.output * o for step, x, o in zip(table.steps, noisy, outputs, strict=True)]
    return Inversion(table, samples, samples[1:] - torch.stack(means), caption)
