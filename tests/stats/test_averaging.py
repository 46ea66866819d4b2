"""Averages over the own object there and not there: how much of a difference is left, and what their intervals hold."""

import numpy as np
import pytest

from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.averaging import averaged
from diffexplain_fast.stats.cells import estimate
from diffexplain_fast.stats.design import balanced_design
from diffexplain_fast.stats.effects import Effects, interval

LEVELS = (8, 6, 4, 2)
LONE = 13
"""A cell of the second group."""
PICTURES, TARGETS, TRIALS = 384, 24, 8


def effects(estimate: list[float], error: float) -> Effects:
    """Return effects of one group on one outcome, of errors that are known well."""
    one = np.array(estimate)[:, None]
    sure, zero = np.full_like(one, 1e6), np.zeros_like(one)
    return Effects((len(one),), one, np.full_like(one, error), sure, one, zero, zero, np.full(len(one), 99))


def test_differences_that_are_sure_are_kept_where_all_effects_are_large() -> None:
    # No effect is small, so that nothing but a group's own differences tells how large differences are.
    (found,) = averaged(effects([3.0] * 4, 0.02), effects([2.0] * 4, 0.02), np.ones(4, dtype=bool))
    assert found.estimate == pytest.approx(2.5, abs=1e-3) and found.error == pytest.approx(0.02 / 2**0.5, rel=0.01)


def simulated(own: float, others: float) -> tuple[np.ndarray, np.ndarray]:
    """Return whether intervals hold the truth, and half of their widths, [cells with an average, trials and targets].

    One value does one thing beside the own object and another elsewhere; all others do nothing.
    """
    inside, halves = [], []
    truth = np.where(np.arange(sum(LEVELS)) == LONE, (own + others) / 2, 0.0)[:, None]
    for seed in range(TRIALS):
        design, random = balanced_design(LEVELS, PICTURES, seed), np.random.default_rng(seed)
        effect = np.where(design[:, 0] == 0, own, others) * (design[:, 1] == LONE - LEVELS[0])
        values = effect[:, None] + random.standard_normal((PICTURES, TARGETS))
        found = estimate(Asked(design, LEVELS, 4), values, [0] * TARGETS, PICTURES).effects
        low, high = interval(found.estimate, found.error, found.freedom)
        inside.append(((low <= truth) & (truth <= high))[LEVELS[0] :])
        halves.append(((high - low) / 2)[LEVELS[0] :])
    return np.concatenate(inside, 1), np.concatenate(halves, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("others", "own", "lone", "width"),
    [
        # Differences shrunk more, by d^2 - 4 s^2: 0.61, 0.78, 0.57 and 0.57 of the lone cells, widths 3 % smaller.
        (0.9, 2.0, 0.73, 0.311),
        (0.0, 1.5, 0.79, 0.334),
        (0.5, 1.5, 0.70, 0.304),
        (0.0, 0.8, 0.67, 0.289),
        (0.0, 0.0, 0.93, 0.267),
        (2.0, 2.0, 0.92, 0.280),
        (2.0, 0.5, 0.90, 0.310),
    ],
)
def test_intervals_of_averages(others: float, own: float, lone: float, width: float) -> None:
    inside, halves = simulated(own, others)
    assert 0.92 <= inside.mean() <= 0.97
    assert inside[LONE - LEVELS[0]].mean() >= lone
    assert halves.mean() < width
