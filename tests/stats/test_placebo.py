"""The null of placebos, Student's p-value and the adjustment for many tests, against known values."""

import pytest

from diffexplain_fast.stats.placebo import adjusted_p, placebo_p, placebo_spread, student_p


def test_the_spread_is_a_quantile_of_sizes_and_never_below_the_share() -> None:
    placebos = [(-1) ** i * i / 100 for i in range(1, 101)]
    assert placebo_spread(placebos, 0.9) == pytest.approx(0.91)
    assert placebo_spread([0.1, -0.4]) == 0.4 and placebo_spread([]) == 0.0
    with pytest.raises(ValueError, match="confidence"):
        placebo_spread([0.1], 1.0)


def test_the_p_value_of_a_null_is_never_zero() -> None:
    assert placebo_p(5.0, [0.1] * 19) == 0.05
    assert placebo_p(-0.1, [0.1, 0.2, 0.05]) == 0.75


def test_students_p_value_agrees_with_tables() -> None:
    # t = 2.776445 is the two-sided 5 % point at 4 degrees of freedom, 12.706205 at 1.
    for half, count, value in ((2.7764451, 5, 0.05), (12.7062047, 2, 0.05), (4.6040949, 5, 0.01)):
        base = [0.0] * count
        base[0], base[1] = 1.0, -1.0
        sample_sd = (2 / (count - 1)) ** 0.5
        shifted = [one + half * sample_sd / count**0.5 for one in base]
        assert student_p(shifted) == pytest.approx(value, rel=1e-5)
    assert student_p([0.0, 0.0]) == 1.0 and student_p([2.0, 2.0]) == 0.0
    with pytest.raises(ValueError, match="at least 2"):
        student_p([1.0])


def test_the_adjustment_is_the_one_of_benjamini_and_hochberg() -> None:
    values = [0.01, 0.04, 0.03, 0.005, 0.8]
    assert adjusted_p(values) == pytest.approx([0.025, 0.05, 0.05, 0.025, 0.8])
    assert adjusted_p([]) == []
