"""Ancestral steps, spaced evenly from the noisiest level on: what an edit of a given picture runs."""

import math
from typing import TYPE_CHECKING, NamedTuple

from diffexplain_fast.engine.schedules import Step
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.targets import whole_number

if TYPE_CHECKING:
    from diffusers import SchedulerMixin


class Ancestral(NamedTuple):
    """The steps of an ancestral sampler as coefficients.

    Attributes:
        steps: from the noisiest to the cleanest; ``noise`` is the standard deviation of the fresh noise, 0 at the last.
        signals: for each step the factor s of the clean sample in x_i = s x_0 + sqrt(1 - s^2) e, above 0, at most 1.
    """

    steps: tuple[Step, ...]
    signals: tuple[float, ...]


def ancestral_steps(scheduler: "SchedulerMixin", count: int) -> Ancestral:
    """Tabulate ancestral steps (DDPM's, eta 1 of DDIM) that start at the last timestep of the training.

    With a and a' the products of alphas at this step and the next (a' = 1 after the last), d the clean sample and e the
    noise that the denoiser sees in x_i:

        x_{i+1} = sqrt(a') d + sqrt(1 - a' - v) e + sqrt(v) z,    v = (1 - a') / (1 - a) (1 - a / a')

    A sampler's own spacing often starts later, at 751 of 999 for four steps. An edit that starts there keeps what it
    was to change.

    Args:
        scheduler: a diffusers scheduler with ``alphas_cumprod``; only its noise levels are read.
        count: number of steps, from 1 to the scheduler's training steps.

    Raises:
        TypeError: a scheduler without noise levels, or a number of steps that is not whole.
        ValueError: too few or too many steps, another prediction than "epsilon" or "v_prediction", or "epsilon" where
            the noisiest level has no signal.

    Source: Song et al., DDIM (arXiv 2010.02502), eqs. 12 and 16.
    """
    if not hasattr(scheduler, "alphas_cumprod") or not hasattr(scheduler, "config"):
        raise wrong_type("scheduler", "a diffusers scheduler with alphas_cumprod", scheduler)
    alphas, kind = scheduler.alphas_cumprod.double().tolist(), scheduler.config.prediction_type
    total, count = len(alphas), whole_number("steps", count)
    if not 1 <= count <= total:
        raise wrong_value("steps", f"from 1 to {total}, the training steps of the scheduler", count)
    if kind not in ("epsilon", "v_prediction"):
        raise wrong_value("scheduler.config.prediction_type", "'epsilon' or 'v_prediction'", repr(kind))
    timesteps = [total - 1 - i * total // count for i in range(count)]
    if kind == "epsilon" and alphas[timesteps[0]] <= 0:
        raise wrong_value("scheduler", "a noisiest level with some signal, or 'v_prediction'", "a level without any")
    following = [alphas[t] for t in timesteps[1:]] + [1.0]
    steps = tuple(_step(t, alphas[t], after, kind) for t, after in zip(timesteps, following, strict=True))
    return Ancestral(steps, tuple(math.sqrt(alphas[t]) for t in timesteps))


def _step(timestep: int, alpha: float, after: float, kind: str) -> Step:
    signal, noise = math.sqrt(alpha), math.sqrt(1 - alpha)
    variance = (1 - after) / (1 - alpha) * (1 - alpha / after)
    if kind == "v_prediction":
        clean, direction = (signal, -noise), (noise, signal)
    else:
        clean, direction = (1 / signal, -noise / signal), (0.0, 1.0)
    of_clean, of_noise = math.sqrt(after), math.sqrt(max(1 - after - variance, 0.0))
    return Step(
        timestep,
        sample=of_clean * clean[0] + of_noise * direction[0],
        output=of_clean * clean[1] + of_noise * direction[1],
        noise=math.sqrt(max(variance, 0.0)),
        clean=clean,
    )
