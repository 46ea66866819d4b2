"""The largest of many t statistics by the wild bootstrap, which controls any false finding in a whole family."""

import numpy as np

from diffexplain_fast.stats.effects import Effects
from diffexplain_fast.stats.regression import Fit


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
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (len(fit.x), draws))
    same = effects.groups[:, None] == effects.groups[None, :]
    largest = np.zeros(draws)
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
