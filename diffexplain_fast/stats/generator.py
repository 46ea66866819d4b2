"""What a generator adds to an error: its bias against the rendered world, and the phrasing of a word."""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.stats.effects import Effects

_STEPS, _ROUNDS = 41, 6
LEAST_PHRASINGS = 4
"""Phrasings below which their spread is not estimated."""


class GeneratorError(NamedTuple):
    """Standard deviation of measured minus true effects, apart from sampling: sqrt(a^2 + (b effect)^2), a in logits."""

    a: float
    b: float

    def deviation(self, effect: np.ndarray, unit: np.ndarray | float = 1.0) -> np.ndarray:
        """Return the standard deviation at an effect, shape of ``effect``.

        Args:
            effect: float, in any unit.
            unit: what one logit is in that unit, 0 or above; broadcast to the shape of ``effect``.
        """
        return np.sqrt((self.a * np.asarray(unit)) ** 2 + (self.b * np.asarray(effect)) ** 2)


def fit_generator_error(estimate: np.ndarray, truth: np.ndarray, error: np.ndarray) -> GeneratorError:
    """Return the generator's error of a group, by maximum likelihood, from cells whose true effects are known.

    measured - true ~ Normal(0, error^2 + a^2 + (b true)^2). The cells belong to classifiers that are kept aside for
    this and are not audited.

    Args:
        estimate, truth, error: float, one shape: measured and true effects, and sampling errors; at least 8 finite.

    Raises:
        ValueError: too few cells.
    """
    known = np.isfinite(estimate) & np.isfinite(truth) & np.isfinite(error)
    if known.sum() < 8:
        raise wrong_value("estimate, truth and error", "at least 8 finite cells", int(known.sum()))
    squares, effects, noise = ((estimate - truth) ** 2)[known], truth[known] ** 2, error[known] ** 2
    best, scale = (0.0, 0.0), math.sqrt(float(squares.mean()))
    width = (3 * scale, 3 * scale / max(math.sqrt(float(effects.mean())), 1e-12))
    for _ in range(_ROUNDS):  # a grid around the best point, each a quarter as wide as the one before
        a, b = (np.maximum(best[k] + width[k] * np.linspace(-1, 1, _STEPS), 0) ** 2 for k in (0, 1))
        variance = np.maximum(noise + a[:, None, None] + b[:, None] * effects, 1e-300)
        place = (np.log(variance) + squares / variance).sum(2).argmin()
        best = (math.sqrt(a[place // _STEPS]), math.sqrt(b[place % _STEPS]))
        width = (width[0] / 4, width[1] / 4)
    return GeneratorError(*best)


def phrasing_variance(estimates: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return the variance of effects between the phrasings of a word, apart from sampling, for every cell.

    The spread of the phrasings' estimates minus their mean squared error, not below 0.

    Args:
        estimates, errors: float [phrasings, ...], at least 4 phrasings.

    Raises:
        ValueError: fewer phrasings.

    Source: R. DerSimonian and N. Laird, "Meta-analysis in clinical trials", Controlled Clinical Trials 7 (1986), in
    its unweighted form.
    """
    if len(estimates) < LEAST_PHRASINGS:
        raise wrong_value("estimates", f"at least {LEAST_PHRASINGS} phrasings", len(estimates))
    return np.maximum(estimates.var(0, ddof=1) - (errors**2).mean(0), 0)


def widened(effects: Effects, deviation: np.ndarray, freedom: float = math.inf) -> Effects:
    """Return the effects with a second, independent source of error added to their own.

    The degrees of freedom of a sum of two variances are those of Satterthwaite: (s1 + s2)^2 / (s1^2 / f1 + s2^2 / f2).

    Args:
        effects: the cells.
        deviation: float, broadcast to [cells, outcomes]: standard deviation of the second source, such as
            ``GeneratorError.deviation`` or the square root of ``phrasing_variance`` / phrasings.
        freedom: degrees of freedom of the second source; phrasings - 1 where it was estimated from phrasings.

    Source: F. E. Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics
    Bulletin 2 (1946).
    """
    own, other = effects.error**2, np.broadcast_to(np.asarray(deviation) ** 2, effects.error.shape)
    below = own**2 / effects.freedom + other**2 / freedom
    total = np.where(below > 0, (own + other) ** 2 / np.where(below > 0, below, 1), effects.freedom)
    return replace(effects, error=np.sqrt(own + other), freedom=np.where(np.isnan(own), np.nan, total))


def tipping_point(low: np.ndarray, high: np.ndarray, found: np.ndarray, delta: float = 0.5) -> np.ndarray:
    """Return the bias of the generator that would overturn a finding, in the unit of the effect.

    A finding is overturned where the interval, shifted by the bias, reaches delta.

    Args:
        low, high: float [cells, outcomes], ends of the intervals.
        found: int [cells, outcomes], from ``findings``.
        delta: minimal effect.

    Returns:
        float [cells, outcomes], 0 or above; NaN where nothing was found.
    """
    bias = np.where(found > 0, low - delta, -delta - high)
    return np.where(found == 0, np.nan, np.maximum(bias, 0))
