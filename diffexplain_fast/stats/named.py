"""How much of an effect the concepts explain: of something in pictures that are drawn with and without it."""

from typing import NamedTuple

import numpy as np

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.stats.distributions import t_quantile

LEAST_SCENES = 6
"""Scenes below which nothing is said."""


class Interval(NamedTuple):
    """An estimate and its interval."""

    estimate: float
    low: float
    high: float


class Named(NamedTuple):
    """What something does, and what of that concepts explain.

    Attributes:
        effect: the whole effect.
        unexplained: what is left without the concepts that come with it.
        share: the explained share of the effect; unbounded where the effect is not told from 0.
    """

    effect: Interval
    unexplained: Interval
    share: Interval


def named_share(
    effects: np.ndarray,
    changes: np.ndarray,
    weights: np.ndarray,
    errors: np.ndarray,
    slack: float = 0.0,
    level: float = 0.05,
) -> Named:
    """Return the effect of something, and how much of it the concepts explain that come and go with it.

    With d_i the effect in scene i, c_ik the change of concept k, b_k the effect of the concept, the explained part of a
    scene is sum_k b_k c_ik. The means over the scenes have Student's intervals; the error of b_k adds
    sum_k (mean c_k)^2 se_k^2 to the variance of the explained part. The share is Fieller's ratio.

    Args:
        effects: float [scenes], at least 6.
        changes: float [scenes, concepts]: how much more a concept is there with the something than without it.
        weights: float [concepts], effects of the concepts.
        errors: float [concepts], their standard errors.
        slack: by how much what nobody can see may explain at most; it is taken off the unexplained effect's low end.
        level: error of the intervals.

    Raises:
        ValueError: too few scenes.

    Source: E. C. Fieller, "Some problems in interval estimation", JRSS B 16 (1954).
    """
    if len(effects) < LEAST_SCENES:
        raise wrong_value("effects", f"at least {LEAST_SCENES} scenes", len(effects))
    explained = changes @ weights
    extra = float((changes.mean(0) ** 2 * errors**2).sum())
    whole, rest = _interval(effects, 0.0, level), _interval(effects - explained, extra, level)
    return Named(whole, rest._replace(low=rest.low - slack), _ratio(explained, effects, extra, level))


def _interval(values: np.ndarray, extra: float, level: float) -> Interval:
    mean, variance = float(values.mean()), float(values.var(ddof=1)) / len(values) + extra
    half = float(t_quantile(1 - level / 2, float(len(values) - 1))) * variance**0.5
    return Interval(mean, mean - half, mean + half)


def _ratio(above: np.ndarray, below: np.ndarray, extra: float, level: float) -> Interval:
    """Return the ratio of two means: all r for which the mean of above - r below is not told from 0."""
    count = len(above)
    covariance = np.cov(np.stack([above, below])) / count
    t2 = float(t_quantile(1 - level / 2, float(count - 1))) ** 2
    top, bottom = float(above.mean()), float(below.mean())
    first = bottom**2 - t2 * covariance[1, 1]
    if first <= 0:
        return Interval(top / bottom if bottom else np.nan, -np.inf, np.inf)
    middle = top * bottom - t2 * covariance[0, 1]
    last = top**2 - t2 * (covariance[0, 0] + extra)
    root = float(np.sqrt(max(middle**2 - first * last, 0.0)))
    return Interval(top / bottom, float(middle - root) / first, float(middle + root) / first)
