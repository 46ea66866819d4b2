"""Two-stage least squares where words are disobeyed and the eye errs, weak instruments, and bad synonyms."""

import functools

import numpy as np
import pytest

from diffexplain_fast.stats.design import balanced_design
from diffexplain_fast.stats.effects import against_median, interval
from diffexplain_fast.stats.exclusion import exclusion, weighted_median
from diffexplain_fast.stats.instruments import anderson_rubin, corrected, showing, weakest_direction
from diffexplain_fast.stats.regression import least_squares
from diffexplain_fast.stats.words import Words

LEVELS = (5, 4)
TRUTH = np.zeros((9, 1))
TRUTH[[1, 7]] = 6.0
"""True effects of all cells: values 1 and 2 of the two groups."""
OUTCOMES = 40


@functools.cache
def words_of(synonyms: int, pictures: int) -> Words:
    asked = balanced_design([k * synonyms for k in LEVELS], pictures, 7)
    return Words(asked, tuple(tuple(value for value in range(k) for _ in range(synonyms)) for k in LEVELS))


def world(
    words: Words, obeyed: float, wrong: float, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Return what the eye saw, its confusion matrices, and outcomes that follow what is truly shown."""
    random, n = np.random.default_rng(seed), len(words.asked)
    seen, confusions, outcomes = [], [], random.normal(0, 1.5, (n, OUTCOMES))
    for group, k in enumerate(LEVELS):
        obeys = (words.design[:, group] >= 0) & (random.random(n) < obeyed)
        shown = np.where(obeys, words.design[:, group], random.integers(0, k, n))
        outcomes += TRUTH[:5, 0][shown][:, None] if group == 0 else TRUTH[5:, 0][shown][:, None]
        saw = np.where(random.random(n) < wrong, (shown + random.integers(1, k, n)) % k, shown)
        seen.append(np.eye(k)[saw])
        confusions.append(np.full((k, k), wrong / (k - 1)) + np.eye(k) * (1 - wrong - wrong / (k - 1)))
    return seen, confusions, outcomes


def test_half_disobeyed_and_a_quarter_seen_wrong() -> None:
    # Seed 0 to 7: asking finds half of the effect, an uncorrected eye too much, the corrected one the truth.
    words, asking, raw, right, covers = words_of(1, 768), [], [], [], []
    for seed in range(8):
        seen, confusions, outcomes = world(words, 0.5, 0.25, seed)
        asking.append(against_median(least_squares(words.design, LEVELS, outcomes)).estimate)
        raw.append(against_median(showing(words, seen, outcomes)).estimate)
        shown = [corrected(saw, confusion) for saw, confusion in zip(seen, confusions, strict=True)]
        fit = showing(words, shown, outcomes)
        effects = against_median(fit)
        right.append(effects.estimate)
        low, high = anderson_rubin(fit, effects)
        covers.append(((low <= TRUTH) & (high >= TRUTH)).mean())
        assert np.isfinite(low).all()
    planted = TRUTH[:, 0] > 1
    assert np.mean(asking, 0)[planted].mean() == pytest.approx(3, abs=0.3)
    assert np.mean(raw, 0)[planted].mean() > 7.2
    assert np.mean(right, 0)[planted].mean() == pytest.approx(6, rel=0.1)
    assert (
        np.abs(np.mean(right, (0, 2)) - TRUTH[:, 0])[~planted].max() < 0.6
    )  # three errors of a mean over 8 seeds: 3 x .55 / 8 ** .5
    assert 0.93 <= np.mean(covers) <= 0.995


def test_words_that_do_nothing_are_not_drawable_instead_of_without_effect() -> None:
    words = words_of(1, 384)
    seen, _, outcomes = world(words, 0.0, 0.0, 1)
    fit = showing(words, seen, outcomes)
    low, high = anderson_rubin(fit, against_median(fit))
    assert np.isinf(low).mean() > 0.7
    covered = (low <= TRUTH) & (high >= TRUTH)
    assert covered.mean() > 0.9


def test_anderson_rubin_is_students_interval_where_words_are_obeyed() -> None:
    words = words_of(1, 768)
    seen, _, outcomes = world(words, 1.0, 0.0, 2)
    fit = showing(words, [saw if group else None for group, saw in enumerate(seen)], outcomes)
    effects = against_median(fit)
    low, high = anderson_rubin(fit, effects)
    student = interval(effects.estimate, effects.error, effects.freedom)
    assert np.median((high - low) / (student[1] - student[0])) == pytest.approx(1, abs=0.1)


def test_asking_takes_the_place_of_a_poor_eye() -> None:
    words = words_of(1, 384)
    _, _, outcomes = world(words, 0.7, 0.0, 3)
    asking = against_median(least_squares(words.design, LEVELS, outcomes))
    both = against_median(showing(words, [None, None], outcomes))
    assert np.allclose(asking.estimate, both.estimate) and np.allclose(asking.error, both.error)


def test_means_of_showing_are_those_of_the_users_distribution() -> None:
    words = words_of(1, 384)
    seen, _, outcomes = world(words, 1.0, 0.0, 4)
    weights = np.where(words.design[:, 1] == 2, 6.0, 1.0)
    asking = least_squares(words.design, LEVELS, outcomes, weights)
    assert np.allclose(showing(words, [None, None], outcomes, weights).means, asking.means)
    plain, both = (against_median(showing(words, seen, outcomes, given)) for given in (None, weights))
    # The other group's value 2 counts six times and adds 6, so the first group's means rise.
    assert (both.means[:5] - plain.means[:5]).mean() > 1
    assert both.medians[0, 0] - plain.medians[0, 0] > 1


def test_the_median_of_synonyms_is_that_in_the_users_distribution() -> None:
    # Value 1 of the first group adds 6 only beside value 0 of the second, which counts nine times.
    words = words_of(4, 1536)
    outcomes = np.random.default_rng(0).normal(0, 0.5, (1536, 4))
    outcomes += 6.0 * ((words.design[:, 0] == 1) & (words.design[:, 1] == 0))[:, None]
    weights = np.where(words.design[:, 1] == 0, 9.0, 1.0)
    fit = showing(words, [None, None], outcomes, weights)
    effects = against_median(fit)
    test = exclusion(fit, effects, words, weights)
    assert effects.estimate[1].mean() > 3
    assert np.allclose(test.median[1], effects.estimate[1], atol=0.4)


def test_confusion_matrices() -> None:
    confusion = np.array([[0.9, 0.2], [0.1, 0.8]])
    assert np.allclose(corrected(np.array([[0.9, 0.1], [0.2, 0.8]]), confusion), np.eye(2))
    assert weakest_direction(np.eye(3)) == pytest.approx(1)
    blind = np.full((2, 2), 0.5)
    assert weakest_direction(blind) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match=r"singular values of at least 0\.3"):
        corrected(np.eye(2), blind)
    with pytest.raises(ValueError, match="add up to one"):
        weakest_direction(np.array([[1.0, 0.5], [0.5, 0.5]]))


def test_exclusion_by_size_and_power() -> None:
    # Seeds 0 to 4, 40 outcomes each, 768 pictures, 4 synonyms; one synonym of value 3 carries 2 logits of its own.
    words, clean, caught, median, joint, covers = words_of(4, 768), [], [], [], [], []
    bad = (words.asked[:, 0] == 3 * 4 + 1)[:, None]
    for seed in range(5):
        seen, _, outcomes = world(words, 0.9, 0.0, seed)
        for side in (0.0, 2.0):
            fit = showing(words, seen, outcomes + side * bad)
            effects = against_median(fit)
            test = exclusion(fit, effects, words)
            if side:
                caught.append(test.p[3] < 0.05)
                median.append(test.median[3])
                joint.append(effects.estimate[3])
            else:
                clean.append(test.p < 0.05)
                covers.append(np.abs(test.median - TRUTH) < 1.96 * test.error)
    assert 0.02 <= np.mean(clean) <= 0.07 and np.mean(caught) >= 0.8
    assert 0.92 <= np.mean(covers) <= 0.99
    assert abs(np.mean(median)) < 0.5 * abs(np.mean(joint))


def test_values_with_few_synonyms_are_not_tested() -> None:
    words = words_of(1, 384)
    seen, _, outcomes = world(words, 0.9, 0.0, 0)
    fit = showing(words, seen, outcomes)
    assert np.isnan(exclusion(fit, against_median(fit), words).p).all()


@pytest.mark.parametrize("unknown", [1, 4])
def test_words_that_are_never_drawn_are_not_tested_or_have_no_weight(unknown: int) -> None:
    # The eye sees value 0 where some or all of the synonyms of value 3 are said, and never sees value 3 elsewhere.
    words = words_of(4, 768)
    seen, _, outcomes = world(words, 0.9, 0.0, 0)
    word, shown = words.asked[:, 0], seen[0].copy()
    known = (word >= 12 + unknown) & (word < 16)
    shown[~known, 0] += shown[~known, 3]
    shown[~known, 3] = 0
    fit = showing(words, [shown, seen[1]], outcomes)
    test = exclusion(fit, against_median(fit), words)
    assert np.isnan(test.p[3]).all() == (unknown == 4) and np.isfinite(np.delete(test.p, 3, 0)).all()
    if unknown < 4:
        assert np.isfinite(test.error[3]).all() and np.abs(test.median[3]).mean() < 1


def test_weighted_median_by_hand() -> None:
    # Middles of the weights are at .1, .3, .65, .95 of the whole: one half lies 4/7 of the way from 2 to 3.
    assert weighted_median(np.array([4.0, 1, 2, 3]), np.array([1.0, 2, 2, 5])) == pytest.approx(2 + 4 / 7)
    assert weighted_median(np.array([[1.0, 2, 30]]), np.ones((1, 3))).tolist() == [2]
