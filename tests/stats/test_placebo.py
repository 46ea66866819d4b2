"""The null of placebos, Student's p-value and the adjustment for many tests, against known values."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from diffexplain_fast.stats.placebo import (
    Error,
    adjusted_p,
    error_of_sum,
    mixed_placebo_p,
    placebo_error,
    placebo_p,
    placebo_spread,
    student_p,
)


def test_the_spread_is_the_one_of_a_prediction_with_known_mean() -> None:
    assert placebo_spread([0.3, -0.3, 0.3, -0.3, 0.3]) == pytest.approx(2.570582 * 0.3, rel=1e-6)
    assert placebo_spread([]) == math.inf, "nothing is known"
    with pytest.raises(ValueError, match="confidence"):
        placebo_spread([0.1], 1.0)


def test_one_more_placebo_is_seldom_significant_and_a_large_effect_is() -> None:
    generator = torch.Generator().manual_seed(0)
    alarms = 0
    for _ in range(400):
        *placebos, one = torch.randn(9, generator=generator).tolist()
        alarms += placebo_p(one, placebos) < 0.05
    assert 8 <= alarms <= 32  # 20 of 400 are expected
    assert placebo_p(2.570582 * 0.3, [0.3, -0.3, 0.3, -0.3, 0.3]) == pytest.approx(0.05, rel=1e-5)
    assert placebo_p(5.0, [0.1, -0.1, 0.05]) < 1e-4 and placebo_p(5.0, []) == 1.0


def test_kinds_of_placebos_count_by_their_shares() -> None:
    calm, wild = [0.1, -0.1, 0.1], [2.0, -2.0]
    assert mixed_placebo_p(0.3, [(1.0, calm)]) == placebo_p(0.3, calm)
    parts = 0.9 * 0.1**2, 0.1 * 2.0**2
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 2)
    wanted = 2 * float(scipy.stats.t.sf(1.5 / sum(parts) ** 0.5, freedom))
    assert mixed_placebo_p(1.5, [(0.9, calm), (0.1, wild)]) == pytest.approx(wanted, rel=1e-6)
    with pytest.raises(ValueError, match="parts: wanted placebos of every kind"):
        mixed_placebo_p(1.5, [(0.9, calm), (0.1, [])])


def test_students_p_value_agrees_with_tables() -> None:
    # t = 2.776445 is the two-sided 5 % point at 4 degrees of freedom, 12.706205 at 1.
    for half, count, value in ((2.7764451, 5, 0.05), (12.7062047, 2, 0.05), (4.6040949, 5, 0.01)):
        base = [0.0] * count
        base[0], base[1] = 1.0, -1.0
        sample_sd = (2 / (count - 1)) ** 0.5
        shifted = [one + half * sample_sd / count**0.5 for one in base]
        assert student_p(shifted) == pytest.approx(value, rel=1e-5)
    assert student_p([0.0, 0.0]) == 1.0
    with pytest.raises(ValueError, match="at least 2"):
        student_p([1.0])


def test_few_numbers_that_are_all_0_do_not_say_that_the_next_one_is() -> None:
    for error in (placebo_error([0.0], [0.0]), placebo_error([0.0, 0.0], [0.0, 0.0])):
        assert error.spread() == math.inf and error.p(1e-9) == error.p(9.0) == error.p(0.0) == 1
    assert placebo_p(1e-9, [0.0] * 3) == pytest.approx(1 / 4) and placebo_p(0.0, [0.0] * 3) == 1
    assert placebo_spread([0.0] * 18) == math.inf and placebo_spread([0.0] * 19) == 0.0, "one of twenty is another"
    kinds = [(0.75, [0.0] * 4), (0.25, [0.0] * 9)]
    assert mixed_placebo_p(3.0, kinds) == pytest.approx(0.75 / 5 + 0.25 / 10) and mixed_placebo_p(0.0, kinds) == 1
    whole = error_of_sum([Error(0.0, 9.0)] * 3)
    assert whole.p(1.0) == pytest.approx(3 / 10) and whole.deviation == 0, "any of three may be another number"


def test_redraws_of_a_count_cover_their_own_next_one() -> None:
    rng, called = np.random.default_rng(0), 0
    for _ in range(4000):
        *redraws, effect = (rng.random(4) < 0.2).astype(float).tolist()  # most of the time nothing moves
        called += placebo_p(effect, redraws) < 0.05
    assert called == 0, "before, one of ten: three zeros and then a one"


def test_equal_numbers_say_their_sign_only() -> None:
    for n in (2, 3, 8):
        assert student_p([-2.0] * n) == 2.0 ** (1 - n), "as often as n coins fall alike"
    assert student_p([1.0, 1.0 + 1e-6]) == 0.5, "a saturated output"
    assert student_p([1.0, 1.01, 0.99, 1.0]) < 1e-5


def test_the_adjustment_is_the_one_of_benjamini_and_hochberg() -> None:
    values = [0.01, 0.04, 0.03, 0.005, 0.8]
    assert adjusted_p(values) == pytest.approx([0.025, 0.05, 0.05, 0.025, 0.8])
    assert adjusted_p([]) == []


def test_errors_that_are_one_estimate_have_its_freedom_once() -> None:
    one, other = Error(0.5, 3.0), Error(0.4, 8.0)
    assert error_of_sum([one] * 4) == (pytest.approx(1.0), pytest.approx(3.0)), "four pictures share their placebos"
    apart = error_of_sum([one, other])
    assert apart.deviation == pytest.approx(math.hypot(0.5, 0.4))
    assert apart.freedom == pytest.approx((0.25 + 0.16) ** 2 / (0.25**2 / 3 + 0.16**2 / 8)) and apart.freedom > 3
    assert error_of_sum([one, other], shared=True) == (apart.deviation, 3.0)
    assert (
        error_of_sum([Error(1e-90, 3.0)]) == (pytest.approx(1e-90), 3.0)
        and error_of_sum([Error(0.0, 2.0)]).freedom == 2
    )
