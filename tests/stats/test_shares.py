"""Intervals of shares of answers where some values are always or never answered."""

import numpy as np
import pytest

from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.cells import concept_effects
from diffexplain_fast.stats.design import balanced_design
from diffexplain_fast.stats.effects import interval
from diffexplain_fast.stats.shares import exact_shares, with_sure_answers


def points(asked: Asked, hits: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return differences of shares, their usual interval, and the one that holds sure answers."""
    _, effects = concept_effects(asked, hits)
    usual = interval(effects.estimate, effects.error, effects.freedom, 0.05)
    return effects.estimate, *usual, *with_sure_answers(asked, hits, effects, *usual, 0.05)


def test_always_against_never_is_not_known_without_error() -> None:
    asked = Asked(np.arange(48)[:, None] % 2, (2,), 1)
    estimate, low, _, lower, higher = points(asked, (asked.design == 0).astype(float))
    assert estimate[0, 0] == pytest.approx(0.5) and low[0, 0] == pytest.approx(0.5)
    reach = 1.959964**2 / (24 + 1.959964**2)
    assert lower[0, 0] == pytest.approx(0.5 - np.sqrt(2) * reach / 2) and higher[0, 0] == pytest.approx(0.5)
    assert lower[1, 0] == pytest.approx(-0.5) and higher[1, 0] == pytest.approx(-0.5 + np.sqrt(2) * reach / 2)


def test_values_that_are_never_answered_have_the_same_interval() -> None:
    asked = Asked(balanced_design((6,), 120, 0, 0.0), (6,), 1)
    *_, lower, higher = points(asked, (asked.design == 0).astype(float))
    assert np.ptp(lower[1:]) < 1e-9 and np.ptp(higher[1:]) < 1e-9
    assert lower[1, 0] < -0.01 and higher[1, 0] == pytest.approx(-lower[1, 0], abs=0.2)


def test_a_free_word_is_against_its_absence_and_points_end_at_100() -> None:
    asked = Asked(np.arange(48)[:, None] % 2, (2,), 0)
    estimate, *_, lower, higher = points(asked, asked.design.astype(float))
    assert estimate[1, 0] == pytest.approx(1) and higher[1, 0] == pytest.approx(1) and (higher <= 1).all()
    assert lower[1, 0] == pytest.approx(1 - np.sqrt(2) * 1.959964**2 / (24 + 1.959964**2))


def test_weights_count_as_pictures_that_are_worth_as_much() -> None:
    design, weights = np.arange(96)[:, None] % 2, np.where(np.arange(96) < 48, 1.0, 1e-9)
    few, many = (points(Asked(design[:n], (2,), 1, w), (design[:n] == 0) * 1.0) for n, w in ((48, None), (96, weights)))
    assert many[3] == pytest.approx(few[3], abs=1e-6)


def test_values_that_are_answered_at_times_keep_their_interval() -> None:
    asked = Asked(balanced_design((3, 2), 96, 0, 0.0), (3, 2), 2)
    hits = (np.random.default_rng(0).random((96, 2)) < 0.5).astype(float)
    _, low, high, lower, higher = points(asked, hits)
    assert lower == pytest.approx(low) and higher == pytest.approx(high)


def test_intervals_hold_shares_near_none_and_all() -> None:
    true, rng = np.array([0.98, 0.01, 0.02, 0.0, 0.03]), np.random.default_rng(0)
    asked = Asked(balanced_design((5,), 150, 0, 0.0), (5,), 1)
    hits = (rng.random((150, 400)) < true[asked.design]).astype(float)
    _, low, high, lower, higher = points(asked, hits)
    wanted = (true - np.median(true))[:, None]
    usual, new = ((one <= wanted) & (wanted <= other) for one, other in ((low, high), (lower, higher)))
    assert usual[0].mean() < 0.85 and new[0].mean() >= 0.93 and new.mean() >= 0.93


def test_none_and_all_are_exact_where_rounding_alone_is_between() -> None:
    given = np.array([4e-16, -4e-16, 1 - 7e-16, 1 + 2e-16, -1 + 3e-16, 1e-9, 1 - 1e-9, 0.25, np.nan])
    found = exact_shares(given)
    assert found[:5].tolist() == [0.0, 0.0, 1.0, 1.0, -1.0] and not np.signbit(found[1])
    np.testing.assert_array_equal(found[5:], given[5:])
