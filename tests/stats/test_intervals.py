"""Intervals, compared with numbers computed by hand and with their coverage."""

import math

import pytest
import torch

from diffexplain_fast.stats.intervals import bootstrap_interval, mean_interval, student_quantile, wilson_interval


def test_wilson_gives_the_numbers_computed_by_hand() -> None:
    # z = 1.959964, z^2 = 3.841459: the formula step by step, then the known interval.
    z = 1.959963984540054
    centre, half, scale = 0.8 + z**2 / 20, z * math.sqrt(0.8 * 0.2 / 10 + z**2 / 400), 1 + z**2 / 10
    assert wilson_interval(8, 10) == pytest.approx(((centre - half) / scale, (centre + half) / scale), abs=1e-12)
    assert wilson_interval(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)


def test_wilson_at_the_ends_is_exact() -> None:
    low, high = wilson_interval(0, 32)
    assert low == 0.0 and high == pytest.approx(3.841459 / (32 + 3.841459), abs=1e-6)
    low, high = wilson_interval(32, 32)
    assert high == 1.0 and low == pytest.approx(32 / (32 + 3.841459), abs=1e-6)


def test_wilson_is_symmetric_and_narrows() -> None:
    low, high = wilson_interval(3, 10)
    assert wilson_interval(7, 10) == pytest.approx((1 - high, 1 - low))
    assert wilson_interval(300, 1000)[1] - wilson_interval(300, 1000)[0] < high - low


@pytest.mark.parametrize(("hits", "n", "confidence"), [(0, 0, 0.95), (-1, 4, 0.95), (5, 4, 0.95), (1, 4, 1.0)])
def test_wilson_refuses_arguments_out_of_range(hits: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="wanted"):
        wilson_interval(hits, n, confidence)


def test_bootstrap_of_equal_values_is_a_point() -> None:
    assert bootstrap_interval([2.5, 2.5, 2.5], torch.Generator().manual_seed(0)) == (2.5, 2.5)


def test_bootstrap_agrees_with_the_normal_interval() -> None:
    values = torch.arange(400, dtype=torch.float64) / 400
    half = 1.96 * float(values.std()) / 20
    low, high = bootstrap_interval(values, torch.Generator().manual_seed(0))
    assert low == pytest.approx(float(values.mean()) - half, abs=half / 10)
    assert high == pytest.approx(float(values.mean()) + half, abs=half / 10)


def test_bootstrap_repeats_and_leaves_global_randomness_alone() -> None:
    before = torch.get_rng_state()
    first, second = (bootstrap_interval([0.0, 1.0, 3.0], torch.Generator().manual_seed(4)) for _ in range(2))
    assert first == second and torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [[1.0]]], ids=["empty", "nan", "nested"])
def test_bootstrap_refuses_arguments_out_of_range(values: list) -> None:
    with pytest.raises(ValueError, match="values: wanted"):
        bootstrap_interval(values, torch.Generator())


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.706204736), (2, 4.302652730), (3, 3.182446305), (31, 2.039513446), (999, 1.962341461)],
)
def test_students_quantile_equals_the_table(freedom: int, quantile: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(quantile, rel=1e-8)
    assert student_quantile(0.5, freedom) == pytest.approx(0, abs=1e-9)


def test_the_interval_of_a_mean_gives_the_numbers_computed_by_hand() -> None:
    low, high = mean_interval([1.0, 2.0, 3.0, 6.0]) or (0, 0)
    half = 3.182446305 * math.sqrt(14 / 3) / 2
    assert (low, high) == pytest.approx((3 - half, 3 + half))
    assert mean_interval([2.0]) is None
    assert mean_interval([2.0, 2.0]) == (2.0, 2.0)


@pytest.mark.parametrize(("p", "freedom"), [(0.4, 3), (1.0, 3), (0.9, 0)])
def test_students_quantile_refuses_arguments_out_of_range(p: float, freedom: int) -> None:
    with pytest.raises(ValueError, match=r"p: wanted|freedom: wanted"):
        student_quantile(p, freedom)


@pytest.mark.parametrize("values", [[], [math.nan], [[1.0]]])
def test_a_mean_of_nothing_is_refused(values: list) -> None:
    with pytest.raises(ValueError, match="values: wanted a list of finite numbers"):
        mean_interval(values)
