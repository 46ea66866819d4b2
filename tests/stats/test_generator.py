"""The generator's error is recovered from known truth, widens intervals, and gives tipping points."""

import numpy as np
import pytest

from diffexplain_fast.stats.effects import against_median, interval
from diffexplain_fast.stats.generator import fit_generator_error, phrasing_variance, tipping_point, widened
from diffexplain_fast.stats.regression import least_squares
from tests.stats.trials import trial


@pytest.mark.parametrize(("a", "b"), [(0.15, 0.0), (0.1, 0.2), (0.0, 0.3)])
def test_error_is_recovered(a: float, b: float) -> None:
    random = np.random.default_rng(0)
    truth = np.where(random.random(2000) < 0.2, random.normal(4, 2, 2000), random.normal(0, 0.3, 2000))
    noise = random.uniform(0.05, 0.15, 2000)
    estimate = truth + random.standard_normal(2000) * np.sqrt(noise**2 + a**2 + (b * truth) ** 2)
    fitted = fit_generator_error(estimate, truth, noise)
    assert fitted.a == pytest.approx(a, abs=0.03) and fitted.b == pytest.approx(b, abs=0.03)
    assert fitted.deviation(np.array([0.0, 2.0]))[1] == pytest.approx(np.hypot(fitted.a, 2 * fitted.b))
    with pytest.raises(ValueError, match="at least 8"):
        fit_generator_error(estimate[:4], truth[:4], noise[:4])


def test_widened_intervals_cover_a_truth_that_the_generator_misses() -> None:
    random = np.random.default_rng(1)
    noise = random.standard_normal((768, 300))
    fitted = against_median(least_squares(*trial([np.zeros(5), np.zeros(4)], 768, noise)))
    truth = random.normal(0, 0.2, fitted.estimate.shape)  # the generator's bias, with the other sign
    plain = interval(fitted.estimate, fitted.error, fitted.freedom)
    wide = widened(fitted, np.full((9, 1), 0.2))
    both = interval(wide.estimate, wide.error, wide.freedom)
    assert ((plain[0] <= truth) & (truth <= plain[1])).mean() < 0.75
    assert 0.94 <= ((both[0] <= truth) & (truth <= both[1])).mean() <= 0.98
    assert (wide.freedom >= fitted.freedom).all()
    assert np.allclose(widened(fitted, np.zeros(1)).freedom, fitted.freedom)


def test_phrasings_of_a_word() -> None:
    random = np.random.default_rng(2)
    errors = np.full((6, 4000), 0.3)
    estimates = random.normal(0, np.hypot(0.3, 0.4), (6, 4000))
    assert (estimates.var(0, ddof=1) - 0.09).mean() == pytest.approx(0.16, abs=0.01)
    between = phrasing_variance(estimates, errors)
    assert (between >= 0).all() and np.median(between) == pytest.approx(0.13, abs=0.03)
    with pytest.raises(ValueError, match="at least 4 phrasings"):
        phrasing_variance(estimates[:3], errors[:3])


def test_tipping_point_by_hand() -> None:
    points = tipping_point(np.array([1.2, -3.0, 0.0]), np.array([2.0, -0.9, 1.0]), np.array([1, -1, 0]))
    assert np.allclose(points, [0.7, 0.4, np.nan], equal_nan=True)
