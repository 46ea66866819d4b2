"""Adjusted p-values, e-values and selection-adjusted levels against numbers by hand."""

from statistics import NormalDist

import numpy as np
import pytest

from diffexplain_fast.stats.multiplicity import (
    benjamini_hochberg,
    benjamini_yekutieli,
    e_benjamini_hochberg,
    e_values,
    holm,
    selected_level,
)


def test_adjusted_by_hand() -> None:
    p = np.array([[0.01, 0.04], [np.nan, 0.03]])
    assert np.allclose(benjamini_hochberg(p), [[0.03, 0.04], [np.nan, 0.04]], equal_nan=True)
    factor = 1 + 1 / 2 + 1 / 3
    assert np.allclose(benjamini_yekutieli(p), np.array([[0.03, 0.04], [np.nan, 0.04]]) * factor, equal_nan=True)
    assert np.isnan(benjamini_hochberg(np.array([np.nan]))).all()


def test_holm_by_hand() -> None:
    p = np.array([[0.01, 0.04], [np.nan, 0.03]])
    assert np.allclose(holm(p), [[0.03, 0.06], [np.nan, 0.06]], equal_nan=True)
    assert holm(np.array([0.6, 0.7])).tolist() == [1, 1] and np.isnan(holm(np.array([np.nan]))).all()


def test_benjamini_hochberg_in_its_first_words() -> None:
    # The largest k with p_(k) <= k q / m; the paper's own example of 15 p-values rejects 4 at q = .05.
    small = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
    p = np.array([*small, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1])
    assert (benjamini_hochberg(p) <= 0.05).sum() == 4


def test_e_values_have_mean_one_and_reject_what_benjamini_and_yekutieli_reject() -> None:
    random = np.random.default_rng(0)
    for level in (0.01, 0.05):
        # The mean over uniform p, exactly: a step at p = k level / (m h) for k = 1 to m; other tests only count.
        edges = (np.arange(6) + 0.5) * level / (6 * (1 / np.arange(1, 7)).sum())
        means = e_values(edges, level).sum() * level / (6 * (1 / np.arange(1, 7)).sum())
        assert means == pytest.approx(1)
        for _ in range(50):
            p = random.random(40) ** random.integers(1, 8)
            by_e = e_benjamini_hochberg(e_values(p, level)) <= level + 1e-12
            assert (by_e == (benjamini_yekutieli(p) <= level)).all()


def test_e_benjamini_hochberg_by_hand() -> None:
    # m = 4, and the k-th largest is found if it is at least 4 / (k q): q = 4 / 100, 4 / (2 30), 4 / (3 1) or more.
    assert np.allclose(e_benjamini_hochberg(np.array([1, 100, 0, 30.0])), [1, 0.04, 1, 4 / 60])


def test_false_coverage_of_selected_intervals() -> None:
    # Seed 1: 40 cells, 4 with effects, selected by a one-sided test; plain intervals of the selected miss too often.
    random, plain, adjusted = np.random.default_rng(1), [], []
    truth = np.where(np.arange(40) < 4, 2.0, 0.0)
    for _ in range(600):
        estimate = truth + random.standard_normal(40)
        found = estimate > 1.645
        level = selected_level(found, np.ones(40, dtype=bool), 0.05)
        for rates, quantile in ((plain, 1.959964), (adjusted, NormalDist().inv_cdf(1 - level / 2))):
            rates.append((np.abs(estimate - truth) > quantile)[found].mean() if found.any() else 0.0)
    assert np.mean(adjusted) <= 0.055 and np.mean(plain) > 0.15
    assert selected_level(np.zeros(3, dtype=bool), np.ones(3, dtype=bool)) == 0.05
