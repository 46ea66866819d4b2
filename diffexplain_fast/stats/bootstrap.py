"""The largest of many t statistics by the wild bootstrap, which controls any false finding in a whole family."""

import math

import numpy as np

from diffexplain_fast.stats.effects import Effects
from diffexplain_fast.stats.regression import Fit

_DRAWS, _MOST_DRAWS, _BEYOND = 999, 19_999, 20
"""Draws at least and at most, and how many of them are expected to be beyond the level of a test."""


def draws_for(level: float) -> int | None:
    """Return how many draws decide at a level: with few draws no adjusted p-value is as small as the level.

    Args:
        level: of the test, in (0, 1).

    Returns:
        20 / level draws, the observed one counted, but at least 999; None where that is more than 19,999, so below a
        level of .001.
    """
    draws = max(_DRAWS, math.ceil(round(_BEYOND / level, 6)) - 1)
    return draws if draws <= _MOST_DRAWS else None


def largest_t(fit: Fit, effects: Effects, tested: np.ndarray, draws: int = 999, seed: int = 0) -> np.ndarray:
    """Return the largest absolute t statistic over the family in draws of pictures without any effect.

    A draw gives every picture's HC3 residuals, of all outcomes together, one random sign, regresses them again, and
    divides every cell's effect by its own HC3 error. The dependence between cells and outcomes is that of the data.

    Args:
        fit: the regression.
        effects: made of it by ``against_median``.
        tested: bool [cells, outcomes]: the family.
        draws: number of draws, at least 1.
        seed: of the random signs.

    Returns:
        float [draws].

    Source: P. H. Westfall and S. S. Young, "Resampling-based multiple testing" (1993); wild bootstrap, E. Mammen,
    "Bootstrap and wild bootstrap for high dimensional linear models", Annals of Statistics 21 (1993); signs,
    R. Davidson and E. Flachaire, "The wild bootstrap, tamed at last", Journal of Econometrics 146 (2008).
    """
    random, left = np.random.default_rng(seed), draws
    parts = []
    while left > 0:  # of bounded memory
        signs = random.choice([-1.0, 1.0], (len(fit.x), min(left, _DRAWS)))
        parts.append(_largest(fit, effects, tested, signs))
        left -= _DRAWS
    return np.concatenate(parts)


def _largest(fit: Fit, effects: Effects, tested: np.ndarray, signs: np.ndarray) -> np.ndarray:
    same = effects.groups[:, None] == effects.groups[None, :]
    largest = np.zeros(signs.shape[1])
    for outcome in np.flatnonzero(tested.any(0)):
        cells = np.flatnonzero(tested[:, outcome])
        difference = np.eye(len(same))[:, cells] - np.where(same[:, cells], effects.middle[:, [outcome]], 0.0)
        rows = fit.rows @ difference  # [pictures, cells]
        drawn = fit.residuals[:, [outcome]] * signs
        again = fit.hc3(drawn - fit.x @ (fit.solve @ drawn))
        variance = (rows**2).T @ again**2
        t = np.abs(rows.T @ drawn) / np.sqrt(np.maximum(variance, 1e-300))
        np.maximum(largest, t.max(0), out=largest)
    return largest


def family_adjusted(statistics: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Return adjusted p-values: the share of draws whose largest statistic is at least this large.

    Args:
        statistics: float, any shape; NaN is no test, and stays NaN.
        largest: float [draws], from ``largest_t``.

    Returns:
        (1 + draws at or above) / (1 + draws), shape of ``statistics``.
    """
    above = len(largest) - np.searchsorted(np.sort(largest), statistics, side="left")
    return np.where(np.isnan(statistics), np.nan, (1 + above) / (1 + len(largest)))
