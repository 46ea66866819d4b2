"""Scores of descriptions of units, and the two sanity checks for such scores."""

import numpy as np
import pytest

from diffexplain_fast.stats.unit_scores import correlation, cosy_scores, deviation

RNG = np.random.default_rng(0)
NAMED = RNG.random((600, 40)) < 0.1
VALUES = 2.0 * NAMED + 0.5 * RNG.standard_normal(NAMED.shape)
"""Units that respond to one concept each."""


def lost(named: np.ndarray, share: float = 0.5) -> np.ndarray:
    """Return labels of which a share of the true ones is missing."""
    return named & (RNG.random(named.shape) >= share)


def extra(named: np.ndarray) -> np.ndarray:
    """Return labels with as many false ones as there are true ones."""
    return named | (RNG.random(named.shape) < named.mean())


def own(named: np.ndarray) -> np.ndarray:
    """Return the correlation of every unit with its own concept."""
    return np.diag(correlation(named, VALUES))


def auc(named: np.ndarray) -> np.ndarray:
    """Return CoSy's AUC of every unit with its own concept."""
    return np.array([cosy_scores(named[:, i], VALUES[:, i])[0] for i in range(NAMED.shape[1])])


def test_correlation_passes_both_sanity_checks() -> None:
    clean = own(NAMED)
    assert (clean > 0.65).all()
    assert (own(lost(NAMED)) < clean - 0.1).mean() >= 0.95
    assert (own(extra(NAMED)) < clean - 0.1).mean() >= 0.95


def test_the_auc_of_cosy_does_not_see_missing_labels() -> None:
    clean = auc(NAMED)
    assert (auc(extra(NAMED)) < clean - 0.1).mean() >= 0.95
    assert (auc(lost(NAMED)) < clean - 0.1).mean() <= 0.05  # which is why both families are reported


@pytest.mark.parametrize("constant", [0.0, 0.1, 0.3, 0.7, -1 / 3, 1e3 + 0.1, 1e-9])
def test_a_constant_has_no_spread_though_its_mean_is_rounded(constant: float) -> None:
    values = np.full((600, 1), constant)
    assert deviation(values)[0] == 0 and deviation(values.astype(np.float32))[0] == 0
    assert np.isnan(correlation(NAMED[:, :1], values)).all() and np.isnan(cosy_scores(NAMED[:, 0], values[:, 0])[1])
    values[::2] += max(abs(constant), 1e-3) * 1e-9
    assert deviation(values)[0] == values[:, 0].std() > 0  # small, and no rounding


def test_scores_are_those_of_their_definitions() -> None:
    named, values = np.array([True, True, False, False, False]), np.array([3.0, 1.0, 2.0, 0.0, 0.0])
    found, mad = cosy_scores(named, values)
    assert found == pytest.approx(5 / 6) and mad == pytest.approx((2 - 2 / 3) / np.std([2.0, 0.0, 0.0]))
    assert correlation(named[:, None], values[:, None])[0, 0] == pytest.approx(np.corrcoef(named, values)[0, 1])
    assert np.isnan(cosy_scores(np.ones(5, bool), values)).all()
    assert np.isnan(correlation(np.ones((5, 1), bool), values[:, None])).all()
