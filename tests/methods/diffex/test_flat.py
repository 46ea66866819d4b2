"""Scores that are flat near a picture: what redraws that do not move them say of an edit."""

import math

import pytest
import scipy.stats

from diffexplain_fast.methods.diffex.error_of_edit import Null
from diffexplain_fast.methods.diffex.pairs import interactions_of
from diffexplain_fast.methods.diffex.summary import effects_of, row_of
from tests.methods.diffex.test_nulls import T3, trial


def flat_null(**redraws: list[float]) -> Null:
    """Return the null of a picture with a place of each name, whose concept has the same name."""
    every = [value for values in redraws.values() for value in values]
    places = {name: Null(values, [0.0] * len(values)) for name, values in redraws.items()}
    return Null(every, [0.0] * len(every), {"swap": [0.0] * 4}, {name: name for name in redraws}, places)


@pytest.mark.parametrize("still", [0.0, 1e-5])
def test_redraws_that_do_not_move_the_score_are_not_certain(still: float) -> None:
    null = flat_null(a=[still, -still], b=[still])
    for effect in (8.0, -1.0):
        row = row_of(0, [trial(effect)], null)
        (found,) = effects_of([row], [null])
        assert (row.low, row.high) == (found.low, found.high) == (-math.inf, math.inf) and found.adjusted_p == 1
    pairs = {one: [trial(value, one)] for one, value in ((("a",), -2.0), (("b",), -2.0), (("a", "b"), -2.0))}
    (pair,) = interactions_of([pairs], [null])
    assert (pair.effect, pair.low, pair.high) == (2.0, -math.inf, math.inf)


def test_a_place_that_does_not_move_the_score_has_the_redraws_of_the_others() -> None:
    null = flat_null(a=[0.0, 0.0], b=[0.7, -0.7], c=[0.0])
    assert null.at(["a"], 8.0).redraws == null.at(["a"]).redraws == [0.7, -0.7], "zeros do not dilute them"
    row = row_of(0, [trial(8.0)], null)
    half = scipy.stats.t.ppf(0.975, 2) * 0.7
    assert (row.low, row.high) == pytest.approx((8 - half, 8 + half), rel=1e-6)
    (effect,) = effects_of([row], [null])
    assert effect.adjusted_p == pytest.approx(2 * scipy.stats.t.sf(8 / 0.7, 2), rel=1e-5)
    small = flat_null(a=[0.0004, -0.0003], b=[0.7, -0.7])
    assert small.at(["a"], 0.01).redraws == [0.0004, -0.0003], "small beside another place is not flat"


def test_where_nothing_moves_the_score_nothing_is_found() -> None:
    null = flat_null(a=[0.0] * 3)
    for n in (1, 2, 9):
        effects = effects_of([row_of(i, [trial(0.0)], null) for i in range(n)], [null] * n)
        assert [(one.effect, one.adjusted_p) for one in effects] == [(0.0, 1.0)]
        assert all(one.low <= 0 <= one.high for one in effects)


def test_pictures_with_one_effect_and_no_known_error_have_the_test_of_signs() -> None:
    null = flat_null(a=[0.0] * 3)
    for n in (2, 5, 8):
        (effect,) = effects_of([row_of(i, [trial(-1.0)], null) for i in range(n)], [null] * n)
        assert effect.adjusted_p >= 2.0 ** (1 - n)
        assert (effect.low, effect.high) == ((-1, -1) if n == 8 else (-math.inf, math.inf))
    known = flat_null(a=[0.3, -0.3, 0.3])
    (two,) = effects_of([row_of(i, [trial(-1.0)], one) for i, one in enumerate((null, known))], [null, known])
    half = T3 * 0.3 / 2**0.5  # a picture whose errors are not known errs like the other one
    assert (two.low, two.high) == pytest.approx((-1 - half, -1 + half), rel=1e-6) and two.adjusted_p >= 0.5
