"""Edit-friendly inversion: a picture as noisy samples and the residuals that lead from one to the next, exactly."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.editing.checks import check_caption, check_clean, check_table, checked_guidance
from diffexplain_fast.editing.latents import LatentModels, check_models
from diffexplain_fast.engine.ancestral import Ancestral
from diffexplain_fast.errors import wrong_type
from diffexplain_fast.evidence.seeds import normal, seeded_generator
from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.targets import whole_number


class Noised(NamedTuple):
    """A picture at the noise levels of some steps.

    Attributes:
        table: the N steps.
        samples: [N + 1, c, h, w], the noisiest first; the last is the picture's own latent.
    """

    table: Ancestral
    samples: Tensor


class Inversion(NamedTuple):
    """A picture on its way from noise.

    Attributes:
        table: the N steps.
        samples: [N + 1, c, h, w], the noisiest first; the last is the picture's own latent.
        residuals: [N, c, h, w], what each step needs beside the denoiser's mean to reach the next sample; float64 where
            the device has it, so that a replayed sample is the same in every bit.
        caption: the source caption; None for the unconditional row.
        guidance: scales of classifier-free guidance that the residuals belong to, one for each step; () for none.
        outputs: [N, c, h, w], of the denoiser with the source caption, without guidance.
    """

    table: Ancestral
    samples: Tensor
    residuals: Tensor
    caption: str | None
    guidance: tuple[float, ...]
    outputs: Tensor

    def scale(self, step: int) -> float:
        """Return the guidance of a step, 1 for none."""
        return self.guidance[step] if self.guidance else 1.0


def invert(
    models: LatentModels,
    table: Ancestral,
    clean: Tensor,
    caption: str | None,
    seed: int = 0,
    guidance: Sequence[float] | float = (),
) -> Inversion:
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
        guidance: scale of classifier-free guidance away from no caption, one for each step or one for all, () for none.
            A scale of 1 runs one row of the denoiser, any other two. An edit has the guidance of its inversion, or
            nothing would be exact; guided in the noisiest steps only it costs less, and says a new word as loud.

    Returns:
        The samples, the noisiest first, and the residual of every step.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: the latents of several pictures, latents that are not finite or have other channels than the
            denoiser's, another number of scales than of steps, or a scale that is not finite.

    Source: Huberman-Spiegelglas et al. (arXiv 2304.06140), eqs. 4 and 5, with the residual in place of the noise map;
        guidance in some steps only: Kynkäänniemi et al. (arXiv 2404.07724).
    """
    check_models(models)
    check_table(table)
    check_clean(clean, models.channels)
    check_caption(caption)
    scales = checked_guidance(guidance, len(table.steps))
    samples = noised(table, clean, seed).samples
    times = [step.timestep for step in table.steps]
    outputs = models.predict(samples[:-1], times, models.text([caption]))
    plain = Inversion(table, samples, _residuals(table, samples, outputs), caption, (), outputs)
    return reguided(models, plain, scales) if scales else plain


def reguided(models: LatentModels, inversion: Inversion, guidance: Sequence[float] | float) -> Inversion:
    """Return an inversion with the same noise for edits with another guidance; see ``invert``.

    The outputs with the source caption are known, so only those without a caption are run: a row for each scale but 1.

    Args:
        models: encoder, denoiser and decoder.
        inversion: of the picture, with any guidance.
        guidance: scale of classifier-free guidance away from no caption, one for each step or one for all, () for none.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: another number of scales than of steps, or a scale that is not finite.
    """
    check_models(models)
    check_inversion(inversion)
    table, samples = inversion.table, inversion.samples
    scales = checked_guidance(guidance, len(table.steps))
    outputs = inversion.outputs.clone()
    some = [i for i, scale in enumerate(scales) if scale != 1.0]
    if some:
        by = torch.tensor([scales[i] for i in some], device=samples.device).view(-1, 1, 1, 1)
        times = [table.steps[i].timestep for i in some]
        outputs[some] = steered(models, samples[:-1][some], times, outputs[some], by)
    return inversion._replace(residuals=_residuals(table, samples, outputs), guidance=scales)


def check_inversion(inversion: object) -> None:
    """Refuse anything but an inversion with its residuals; the samples alone do for ``inpaint`` only."""
    if not isinstance(inversion, Inversion):
        raise wrong_type("inversion", "what invert(...) returns", inversion)


def _residuals(table: Ancestral, samples: Tensor, outputs: Tensor) -> Tensor:
    wide = torch.float32 if samples.device.type == "mps" else torch.float64
    pairs = zip(table.steps, samples[:-1].to(wide), outputs.to(wide), strict=True)
    means = [step.sample * x + step.output * o for step, x, o in pairs]
    return samples[1:].to(wide) - torch.stack(means)


def stepped(inversion: Inversion, i: int, sample: Tensor, output: Tensor) -> Tensor:
    """Return the next sample: the denoiser's mean and the kept residual, added in the residual's precision.

    A sample that is off by its last bit may be another one in half precision, and then the next output is.

    Args:
        inversion: of the picture.
        i: number of the step.
        sample: [B, c, h, w].
        output: of the denoiser.
    """
    step, residual = inversion.table.steps[i], inversion.residuals[i]
    mean = step.sample * sample.to(residual.dtype) + step.output * output.to(residual.dtype)
    return (mean + residual).to(sample.dtype)


def noised(table: Ancestral, clean: Tensor, seed: int = 0) -> Noised:
    """Return a picture at every noise level, each with noise of its own; the denoiser is not asked.

    These are the samples of ``invert``, x_i = s_i x_0 + sqrt(1 - s_i^2) e_i, and all that ``inpaint`` reads of them.

    Args:
        table: the steps, from ``ancestral_steps``.
        clean: the picture's latent [1, c, h, w].
        seed: decides the noise.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: the latents of several pictures, or latents that are not finite.
    """
    check_table(table)
    check_clean(clean)
    whole_number("seed", seed)
    shape = clean.shape[1:]
    noises = [normal(seeded_generator(seed, "editing/inversion", i), *shape) for i in range(len(table.steps))]
    signals = torch.tensor(table.signals, dtype=torch.float32, device=clean.device).view(-1, 1, 1, 1)
    noisy = signals * clean + (1 - signals**2).sqrt() * torch.stack(noises).to(clean.device)
    return Noised(table, torch.cat([noisy, clean]))


def guided(
    models: LatentModels, sample: Tensor, timesteps: Sequence[float], text: Conditioning, guidance_scale: float
) -> Tensor:
    """Return the denoiser's output [B, c, h, w] with classifier-free guidance away from no caption; see ``steered``.

    Args:
        models: encoder, denoiser and decoder.
        sample: noisy latents [B, c, h, w].
        timesteps: [B].
        text: B rows, or 1 row for all.
        guidance_scale: 1 runs no row without a caption.
    """
    output = models.predict(sample, timesteps, text)
    return output if guidance_scale == 1.0 else steered(models, sample, timesteps, output, guidance_scale)


def steered(
    models: LatentModels, sample: Tensor, timesteps: Sequence[float], output: Tensor, guidance_scale: float | Tensor
) -> Tensor:
    """Return an output of the denoiser led away from that of no caption: o = o_none + guidance_scale (o_text - o_none).

    Args:
        models: encoder, denoiser and decoder.
        sample: noisy latents [B, c, h, w].
        timesteps: [B].
        output: o_text [B, c, h, w].
        guidance_scale: one for all, or [B, 1, 1, 1].

    Source: Ho and Salimans (arXiv 2207.12598), eq. 6.
    """
    away = models.predict(sample, timesteps, models.text([None]))
    return away + guidance_scale * (output - away)
