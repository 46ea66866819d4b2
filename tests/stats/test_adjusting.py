"""What pairs of values and other groups add to an outcome, predicted and taken away: exact, unbiased, and a gain."""

import numpy as np
import pytest

from diffexplain_fast.stats import adjusting
from diffexplain_fast.stats.adjusting import other_columns, pairs_of_values
from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.cells import concept_effects, estimate, one_by_one
from diffexplain_fast.stats.coding import columns
from diffexplain_fast.stats.design import balanced_design
from diffexplain_fast.stats.effects import interval

LEVELS = (8, 6, 3, 5, 6)
OWN = 0
"""Value of the first group that is a target's own object."""


def saturated(design: np.ndarray, rng: np.random.Generator, outcomes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return outcomes of a classifier that answers to its own object and to one value more only where both are there,
    with pairs of values that have effects of their own; and the true effects, object present and absent in equal parts.
    """
    own = design[:, 0] == OWN
    cue = np.isin(design[:, 4], (0, 1, 2))
    values = np.where(own, 3.0 * cue, 0.0)[:, None] + rng.standard_normal((len(design), outcomes)) * 0.4
    for first, second in ((1, 3), (0, 3)):
        table = 2 * rng.standard_normal((LEVELS[first], LEVELS[second], outcomes))
        table -= table.mean(0) + table.mean(1)[:, None] - table.mean((0, 1))
        values += table[design[:, first], design[:, second]] * (1 if first else ~own[:, None])
    truth = np.zeros(sum(LEVELS))
    truth[-6:] = np.repeat([0.75, -0.75], 3)
    return values, truth


def errors_and_coverage(adjust: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[float, float, float]:
    """Return root mean square error, coverage and median half-width over all cells of 6 trials of 400 pictures."""
    if not adjust:
        monkeypatch.setattr("diffexplain_fast.stats.cells.pairs_of_values", lambda *_: 0.0)
        monkeypatch.setattr("diffexplain_fast.stats.cells.one_by_one", lambda *given: concept_effects(*given)[1])
    squares, inside, halves = [], [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        asked = Asked(balanced_design(LEVELS, 400, seed, 0.0), LEVELS, len(LEVELS))
        values, truth = saturated(asked.design, rng, 2)
        effects = estimate(asked, values, [OWN] * 2, 400).effects
        low, high = interval(effects.estimate, effects.error, effects.freedom)
        cells = slice(LEVELS[0], None)
        squares.append((effects.estimate - truth[:, None])[cells] ** 2)
        inside.append((low <= truth[:, None])[cells] & (truth[:, None] <= high)[cells])
        halves.append((high - low)[cells] / 2)
    return float(np.sqrt(np.mean(squares))), float(np.mean(inside)), float(np.median(halves))


@pytest.mark.parametrize("wide", [4, 0])
def test_a_picture_is_predicted_from_all_others_as_if_it_were_not_there(
    wide: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adjusting, "_RIDGES", np.array([2.0]))
    monkeypatch.setattr(adjusting, "_WIDE", wide)  # 0: a kernel of pictures by pictures
    rng, levels = np.random.default_rng(0), (3, 4, 2)
    design = np.stack([rng.integers(0, count, 40) for count in levels], 1)
    design[3, 1] = -1
    outcomes = rng.standard_normal((40, 2)) + 4.0 * ((design[:, 0] == 1) & (design[:, 1] == 2))[:, None]
    found = pairs_of_values(design, levels, 3, outcomes)
    single = [adjusting._features(design[:, column], count, None) for column, count in enumerate(levels)]
    alike = [one @ one.T for one in single]
    kernel = alike[0] * alike[1] + alike[0] * alike[2] + alike[1] * alike[2]
    x = columns(design, levels)
    for picture in range(40):
        others = np.arange(40) != picture
        inverse = np.linalg.inv(kernel[np.ix_(others, others)] + 2.0 * np.eye(39))
        free = x[others]
        single = np.linalg.pinv(free.T @ inverse @ free) @ free.T @ inverse @ outcomes[others]
        expected = kernel[picture, others] @ inverse @ (outcomes[others] - free @ single)
        assert found[picture] == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
def test_effects_are_nearer_to_the_truth_and_their_intervals_shorter_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    error, covered, half = errors_and_coverage(True, monkeypatch)
    error_before, _, half_before = errors_and_coverage(False, monkeypatch)
    assert error < 0.92 * error_before and half < 0.85 * half_before
    assert 0.93 <= covered <= 0.985


def test_nothing_is_taken_away_where_pairs_add_nothing() -> None:
    rng = np.random.default_rng(1)
    design = balanced_design(LEVELS, 192, 0, 0.0)
    outcomes = rng.standard_normal((192, 40)) + design[:, [1]]
    taken = pairs_of_values(design, LEVELS, len(LEVELS), outcomes)
    assert float((taken**2).mean()) < 0.05


def test_a_picture_that_is_the_only_one_of_its_value_is_told_by_the_others_only() -> None:
    rng = np.random.default_rng(2)
    design = np.stack([rng.integers(0, 2, 48), rng.integers(0, 3, 48)], 1)
    design[0, 1] = 3
    outcomes = rng.standard_normal((48, 3)) + 3.0 * (design[:, [0]] == design[:, [1]])
    taken = pairs_of_values(design, (2, 4), 2, outcomes)
    outcomes[0] += 100
    assert np.isfinite(taken).all() and np.abs(taken).max() < 5
    assert np.allclose(pairs_of_values(design, (2, 4), 2, outcomes), taken, atol=1e-6)


def test_few_pictures_tell_effects_that_a_regression_on_everything_does_not() -> None:
    rng, design = np.random.default_rng(3), balanced_design(LEVELS[1:], 24, 0, 0.0)
    asked = Asked(design, LEVELS[1:], 4)
    outcomes = 3.0 * (design[:, [3]] < 3) + 0.5 * rng.standard_normal((24, 50))
    effects = one_by_one(asked, outcomes)
    truth = np.concatenate([np.zeros(14), np.repeat([1.5, -1.5], 3)])
    low, high = interval(effects.estimate, effects.error, effects.freedom)
    assert np.sqrt(((effects.estimate - truth[:, None]) ** 2).mean()) < 0.45
    assert ((low <= truth[:, None]) & (truth[:, None] <= high)).mean() > 0.93
    others = other_columns(design, LEVELS[1:], outcomes)
    assert np.abs(others[3]).mean() < 0.4 * np.abs(others[0]).mean()
