"""Pictures with and without an own object: which targets share them, and where they are too few."""

import numpy as np
import pytest

from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.design import balanced_design
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
