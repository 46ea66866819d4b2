"""Shares of answers: none and all without rounding, and intervals where all pictures of a value are answered alike."""

from statistics import NormalDist

import numpy as np

from diffexplain_fast.number_texts import NOISE
from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.coding import cells_of, indicators
from diffexplain_fast.stats.effects import Effects


def with_sure_answers(
    asked: Asked, hits: np.ndarray, effects: Effects, low: np.ndarray, high: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return intervals of effects on answers that hold what values have that are always or never answered.

    Where all n pictures of a value are answered alike, the value has hardly a part in the error: none where no other
    group matters. But the true share may lie as far from 0 or 1 as Wilson's interval does, z^2 / (n + z^2). That
    distance, times the value's weight in the effect, is added in squares to the side on which it lies. Differences of
    shares end at -1 and 1, and at half of that where the median is that of two values.

    Args:
        asked: what the captions ask for.
        hits: 0 or 1, [pictures, outcomes].
        effects: on ``hits``, of ``concept_effects``.
        low, high: their intervals, float [cells, outcomes].
        level: error of the intervals, in (0, 1).

    Source: G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures: a general approach",
    Statistics in Medicine 27 (2008), for one contrast of shares; ``intervals.wilson_interval``.
    """
    groups, said = cells_of(asked.levels)[0], indicators(asked.design, asked.levels)
    weights = said if asked.weights is None else said * asked.weights[:, None]
    total = np.maximum(weights.sum(0), 1e-300)
    pictures = (total**2 / np.maximum((weights**2).sum(0), 1e-300))[:, None]
    share = weights.T @ hits / total[:, None]
    z2 = NormalDist().inv_cdf(1 - level / 2) ** 2
    reach = np.where((effects.pictures > 0)[:, None], z2 / (pictures + z2), 0.0)
    never, always = reach * (share <= 1e-9), reach * (share >= 1 - 1e-9)
    down, up = np.zeros_like(low), np.zeros_like(high)
    for group in range(len(asked.levels)):
        own = groups == group
        middle = _alike(_alike(effects.middle[own], never[own] > 0), always[own] > 0)
        times = 1 if group < asked.groups else 2  # a free word is against its absence
        for cell, alone in zip(np.flatnonzero(own), np.eye(own.sum()), strict=True):
            weight = times * (alone[:, None] - middle)  # of the group's values in this effect
            lower = np.where(weight > 0, always[own], never[own])
            higher = np.where(weight > 0, never[own], always[own])
            down[cell], up[cell] = (((weight * side) ** 2).sum(0) for side in (lower, higher))
    of_two = (groups < asked.groups) & (np.array(asked.levels)[groups] == 2)
    most = np.where(of_two, 0.5, 1.0)[:, None]
    lower = effects.estimate - np.sqrt((effects.estimate - low) ** 2 + down)
    higher = effects.estimate + np.sqrt((high - effects.estimate) ** 2 + up)
    return lower.clip(-most, most), higher.clip(-most, most)


def exact_shares(shares: np.ndarray | float) -> np.ndarray:
    """Return shares, or differences of shares, that are exactly none or all where rounding alone keeps them from it.

    Regressions of answers that are all alike miss 0 and 1 by the last bits, and so do differences of their means.

    Args:
        shares: from -1 to 1, of any shape; NaN stays.

    Returns:
        Float of the same shape; no zero has a minus.
    """
    whole = np.rint(shares)
    return np.asarray(np.where(np.abs(shares - whole) <= NOISE, whole, shares) + 0.0)


def _alike(middle: np.ndarray, tied: np.ndarray) -> np.ndarray:
    """Return weights in a median [values, outcomes] of which tied values have the same, not what rounding says."""
    each = (middle * tied).sum(0) / np.maximum(tied.sum(0), 1)
    return np.where(tied, each, middle)
