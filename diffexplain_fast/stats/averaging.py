"""Effects averaged over two parts of the pictures of which one is small."""

from typing import NamedTuple

import numpy as np

from diffexplain_fast.stats.effects import Effects

_LARGE = 1.0
"""Effects in the large part above this, in logits, may saturate in the other part."""
_FEWEST = 4
"""Cells from which a spread is estimated."""


class Average(NamedTuple):
    """Effects on one outcome, float [cells], NaN where there is none; ``fewest`` as in ``Effects``."""

    estimate: np.ndarray
    error: np.ndarray
    freedom: np.ndarray
    fewest: np.ndarray


def averaged(small: Effects, large: Effects, cells: np.ndarray) -> list[Average]:
    """Return effects averaged over two parts of the pictures in equal shares, for every outcome.

    With a and b the effects in the small and the large part, and d = a - b, the average is b + d / 2. Few pictures make
    d noisy, so d is shrunk to w d, w = t^2 / (t^2 + s^2), with s its sampling error and t the standard deviation of
    true differences between cells, by the method of moments: t^2 is the mean of d^2 - s^2 over the cells of all groups
    that have no large effect. A group of at least 4 cells whose own mean is larger has that one, because differences
    may be large in one group and small in most. The error holds both what is left of the sampling errors and the true
    differences that shrinking takes away:

        (1 - w / 2)^2 s_b^2 + (w / 2)^2 s_a^2 + ((1 - w) / 2)^2 t^2

    A cell whose error in the small part is not known has s = infinity there, so that its w is 0; where t is not known
    either, its error is NaN.

    A difference beyond its error is shrunk less, by t^2 = d^2 - s^2, its own moment. A cell with a large effect has
    t^2 = d^2 at least, because a classifier that is sure already answers less to a concept where the own object is
    there.

    So the error is that of all cells together. It is too small for a cell whose true difference is two to four times s,
    alone among cells without any: intervals of 95 % hold its average in about eight of ten cases.

    Args:
        small: effects in the small part.
        large: effects in the large part.
        cells: bool [cells]: which are averaged.

    Source: B. Efron and C. Morris, "Data analysis using Stein's estimator and its generalizations", JASA 70 (1975),
    with limited translation; R. DerSimonian and N. Laird, "Meta-analysis in clinical trials", Controlled Clinical
    Trials 7 (1986); degrees of freedom by F. E. Satterthwaite, Biometrics Bulletin 2 (1946).
    """
    return [_averaged(small.of([outcome]), large.of([outcome]), cells) for outcome in range(small.estimate.shape[1])]


def _averaged(small: Effects, large: Effects, cells: np.ndarray) -> Average:
    (a, a2), (b, b2) = ((part.estimate[:, 0], part.error[:, 0] ** 2) for part in (small, large))
    told = np.isfinite(a2)
    a2 = np.where(told, a2, np.inf)
    cells = cells & np.isfinite(a) & np.isfinite(b2)
    difference, noise = a - b, a2 + b2
    usual = cells & (np.abs(b) < _LARGE)
    spread = _spread(difference[usual & told], noise[usual & told], noise)
    for group in np.unique(small.groups[cells & told]):
        own = cells & told & (small.groups == group)
        if own.sum() >= _FEWEST:
            spread[own] = np.maximum(spread[own], float((difference**2 - noise)[own].mean()))
    limited = np.where(usual, difference**2 - noise, difference**2)
    spread = np.maximum(spread, limited)
    weight = np.where(told, spread / np.where(told, spread + noise, 1), 0.0)
    parts = ((1 - weight / 2) ** 2 * b2, (weight / 2) ** 2 * np.where(told, a2, 0))
    variance = sum(parts) + ((1 - weight) / 2) ** 2 * spread
    variance[np.isinf(variance)] = np.nan
    below = sum(part**2 / one.freedom[:, 0] for part, one in zip(parts, (large, small), strict=True))
    freedom = np.where(below > 0, variance**2 / np.where(below > 0, below, 1), np.inf)
    estimate = b + weight * difference / 2
    fewest = np.where(told, np.minimum(small.freedom[:, 0], large.freedom[:, 0]), large.freedom[:, 0])
    return Average(*(np.where(cells, array, np.nan) for array in (estimate, np.sqrt(variance), freedom, fewest)))


def _spread(difference: np.ndarray, noise: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Return the variance of true differences; where there are too few cells, as much as their errors."""
    if len(difference) < _FEWEST:
        return otherwise.copy()
    return np.full_like(otherwise, max(0.0, float((difference**2 - noise).mean())))
