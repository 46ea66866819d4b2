"""Pictures with and without an own object: which targets share them, and where they are too few."""

import numpy as np
import pytest

from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.design import balanced_design
from diffexplain_fast.stats.first_stage import among, first_stage
from diffexplain_fast.stats.strata import Strata, _alike, averaged_showing
from diffexplain_fast.stats.words import Words


def test_targets_share_strata_only_where_pictures_and_column_are_the_same() -> None:
    own, others = np.array([True, False, False]), np.array([False, True, True])
    strata = [Strata(own, others, 300), None, Strata(own, ~own, 300), Strata(own, others, 2), Strata(others, own, 300)]
    assert [targets for _, targets in _alike(strata)] == [[0, 2], [3], [4]]


@pytest.mark.parametrize("without", [0, 6])
def test_effects_are_those_of_all_pictures_where_hardly_any_is_without_the_own_object(without: int) -> None:
    # An object that is the only value of its group is seen in every picture.
    design = balanced_design([1, 4], 96, 0)
    shown, outcomes = np.eye(4)[np.maximum(design[:, 1], 0)], np.random.default_rng(0).normal(size=(96, 1))
    own = np.arange(96) >= without
    asked, words = Asked(design, (1, 4), 2), Words.one_each(design, (1, 4))
    _, pooled, found = averaged_showing(asked, words, [None, shown], outcomes, [Strata(own, ~own, 0)])
    assert np.array_equal(found.estimate, pooled.estimate, equal_nan=True) and np.isfinite(found.error[1:]).all()


def _shown(obeyed: tuple[float, float], pictures: int, seed: int) -> tuple[Asked, np.ndarray, Strata]:
    """Return captions of objects and backgrounds, the shown background, and the pictures of the first object."""
    rng, design = np.random.default_rng(seed), balanced_design([4, 3], pictures, seed)
    own = design[:, 0] == 0
    obeys = (rng.random(len(design)) < np.where(own, *obeyed)) & (design[:, 1] >= 0)
    shown = np.where(obeys, design[:, 1], rng.integers(0, 3, len(design)))
    return Asked(design, (4, 3), 2), shown, Strata(own, ~own, 0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("obeyed", [(1.0, 0.9), (1.0, 0.6), (0.6, 0.9), (0.8, 0.8)])
def test_showing_is_exact_beside_an_own_object_that_changes_how_well_words_are_obeyed(
    obeyed: tuple[float, float], weighted: bool
) -> None:
    asked, shown, parts = _shown(obeyed, 88, 0)  # too few for pairs
    weights = np.where(asked.design[:, 1] == 2, 3.0, 1.0) if weighted else None
    asked, words = Asked(asked.design, asked.levels, 2, weights), Words.one_each(asked.design, asked.levels)
    _, _, found = averaged_showing(asked, words, [None, np.eye(3)[shown]], 4.0 * (shown == 1)[:, None], [parts])
    assert np.abs(found.estimate[4:, 0] - [0, 4, 0]).max() < 1e-9


@pytest.mark.parametrize(("obeyed", "least", "most"), [((1.0, 0.5), 0.9, 1.0), ((0.8, 0.8), 0.77, 0.95)])
def test_what_words_let_expect_beside_the_own_object_follows_the_pictures_of_it_beyond_chance(
    obeyed: tuple[float, float], least: float, most: float
) -> None:
    found = []
    for seed in range(20):
        asked, shown, parts = _shown(obeyed, 96, seed)
        words, each, none = Words.one_each(asked.design, asked.levels), [None, np.eye(3)[shown]], np.zeros((96, 1))
        stage = among(words, each, none, first_stage(words, each, none), parts.own)
        told = stage.expected[1]
        assert told is not None
        found.append(told[parts.own & (asked.design[:, 1] == 1), 1].mean())
    assert least < np.mean(found) <= most
