"""A solver that retraces its own steps: a picture becomes noise and that noise the picture, with no residual kept.

In y = x / alpha and s = sigma / alpha the probability flow is dy/ds = e(y, s), e the noise that the denoiser sees. Two
coupled states y and z make each Euler step invertible:

    y_{n+1} = c y_n + (1 - c) z_n + h e(z_n, s_n)
    z_{n+1} = z_n + h e(y_{n+1}, s_{n+1})

Source: McCallum and Foster's coupling as in Rex (arXiv 2502.08834), with Euler's method inside.
"""

import itertools
import math
from typing import NamedTuple

from torch import Tensor

from diffexplain_fast.editing.checks import check_caption, check_clean, check_table, rows_of
from diffexplain_fast.editing.latents import LatentModels, check_models
from diffexplain_fast.engine.ancestral import Ancestral
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.models.conditioning import Conditioning

COUPLING = 0.999
"""c: at 1 the two states would never meet again; further below it each step back multiplies rounding by 1 / c."""


class Reversal(NamedTuple):
    """A picture as noise, from which ``swap_reversibly`` returns.

    Attributes:
        table: the steps.
        states: y and z at the noisiest level [1, c, h, w], in float64; their sample is y alpha.
    """

    table: Ancestral
    states: tuple[Tensor, Tensor]


class _Level(NamedTuple):
    """A level of noise: s and alpha; and of the trained level that it is read as timestep, alpha, and clean sample."""

    s: float
    alpha: float
    timestep: float
    trained: float
    clean: tuple[float, float]


def invert_reversibly(models: LatentModels, table: Ancestral, clean: Tensor, caption: str | None) -> Reversal:
    """Follow the probability flow from a picture to noise, two rows of the denoiser a step.

    Args:
        models: encoder, denoiser and decoder.
        table: the steps, from ``ancestral_steps``.
        clean: the picture's latent [1, c, h, w].
        caption: of the picture as it is; None for the unconditional row.

    Returns:
        The two states at the noisiest level; the picture's noise is y alpha.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: the latents of several pictures, latents that are not finite or have other channels than the
            denoiser's, or a noisiest level without any signal, where y has no value.
    """
    check_models(models)
    check_table(table)
    check_clean(clean, models.channels)
    check_caption(caption)
    text, y = models.text([caption]), clean.double()
    z = y
    for at, after in itertools.pairwise(_levels(table)):
        h = after.s - at.s
        y = COUPLING * y + (1 - COUPLING) * z + h * _noise(models, z, at, text)
        z = z + h * _noise(models, y, after, text)
    return Reversal(table, (y, z))


def swap_reversibly(models: LatentModels, reversal: Reversal, target: Conditioning) -> Tensor:
    """Return from noise to a picture with other captions: every step of the inversion undone, if they are the same.

    Args:
        models: encoder, denoiser and decoder.
        reversal: of the picture, with its own caption.
        target: B captions as they are to be.

    Returns:
        Latents [B, c, h, w], in float32.

    Raises:
        TypeError: an argument of the wrong kind.
    """
    check_models(models)
    if not isinstance(reversal, Reversal):
        raise wrong_type("reversal", "what invert_reversibly(...) returns", reversal)
    count = rows_of("target", target)
    y, z = (state.expand(count, -1, -1, -1) for state in reversal.states)
    for at, after in reversed([*itertools.pairwise(_levels(reversal.table))]):
        h = after.s - at.s
        z = z - h * _noise(models, y, after, target)
        y = (y - (1 - COUPLING) * z - h * _noise(models, z, at, target)) / COUPLING
    return y.float()


def _levels(table: Ancestral) -> list[_Level]:
    """Return the levels from the clean one on; the denoiser reads the clean one as the least noisy level."""
    if table.signals[0] <= 0:
        raise wrong_value("table", "a noisiest level with some signal", "one without any")
    noisy = [
        _Level(math.sqrt(1 - signal**2) / signal, signal, step.timestep, signal, step.clean)
        for step, signal in zip(table.steps, table.signals, strict=True)
    ]
    return [noisy[-1]._replace(s=0.0, alpha=1.0), *reversed(noisy)]


def _noise(models: LatentModels, y: Tensor, level: _Level, text: Conditioning) -> Tensor:
    """Return the noise that the denoiser sees in y, in float64."""
    sample = (y * level.alpha).float()
    output = models.predict(sample, [level.timestep] * len(sample), text)
    clean = level.clean[0] * sample.double() + level.clean[1] * output.double()
    return (sample.double() - level.trained * clean) / math.sqrt(1 - level.trained**2)
