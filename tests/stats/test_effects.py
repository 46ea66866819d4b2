"""Regression and effects against numbers by hand, and the coverage of their intervals."""

from dataclasses import replace

import numpy as np
import pytest

from diffexplain_fast.stats.averaging import averaged
from diffexplain_fast.stats.design import balanced_design
from diffexplain_fast.stats.distributions import t_above
from diffexplain_fast.stats.effects import against_median, interval
from diffexplain_fast.stats.regression import check_effective, effective_pictures, freedom_of, least_squares
from tests.stats.trials import against_medians, trial

EFFECTS = [np.array([3.0, 0.0, 0.2, -0.1, 0.1, 0.0, -1.5]), np.array([0.0, 0.5, 2.0, 0.1, -0.2])]


def test_exact_outcomes_give_exact_effects() -> None:
    design, levels, outcomes = trial(EFFECTS, 96, np.zeros((96, 1)))
    effects = against_median(least_squares(design, levels, outcomes))
    assert np.allclose(effects.estimate, against_medians(EFFECTS), atol=1e-10) and effects.error.max() < 1e-6
    assert np.allclose(effects.means[:7, 0], EFFECTS[0] + EFFECTS[1].mean(), atol=1e-10)
    assert effects.groups.tolist() == [0] * 7 + [1] * 5 and effects.values.tolist() == [*range(7), *range(5)]


def test_one_group_by_hand() -> None:
    # Three values named 2 to 4 times, one group: HC3 of a mean is the sum of (deviation / (1 - 1/n))^2 over n^2.
    design = np.array([[0], [0], [1], [1], [1], [2], [2], [2], [2]])
    outcomes = np.array([1.0, 3, 10, 11, 15, 100, 104, 106, 110])[:, None]
    effects = against_median(least_squares(design, [3], outcomes))
    assert effects.means[:, 0] == pytest.approx([2, 12, 105]) and effects.medians[0, 0] == pytest.approx(12)
    assert effects.middle[:, 0] == pytest.approx([0, 1, 0])
    variances = [2 * (1 / 0.5) ** 2 / 4, 14 * 1.5**2 / 9, 52 * (4 / 3) ** 2 / 16]
    wanted = np.sqrt([variances[0] + variances[1], 0, variances[2] + variances[1]])
    assert effects.error[[0, 2], 0] == pytest.approx(wanted[[0, 2]], abs=0.01)


def test_a_picture_that_no_other_predicts_tells_no_error() -> None:
    # The fourth value is named once: its residual is 0 whatever it is. It is not in the middle of the other three.
    design = np.array([[0], [0], [1], [1], [1], [2], [2], [2], [3]])
    outcomes = np.array([1.0, 3, 10, 11, 15, 10, 14, 16, 500])[:, None]
    effects = against_median(least_squares(design, [4], outcomes))
    assert effects.estimate[:, 0] == pytest.approx(np.array([2, 12, 40 / 3, 500]) - (12 + 40 / 3) / 2)
    assert np.isfinite(effects.error[:3]).all() and np.isnan(effects.error[3, 0])
    outcomes[8] = 12.5  # now it is in the middle, to which all are compared
    effects = against_median(least_squares(design, [4], outcomes))
    assert np.isfinite(effects.estimate).all() and np.isnan(effects.error).all()
    low, high = interval(effects.estimate, effects.error, effects.freedom)
    assert np.isnan(low).all() and np.isnan(high).all()


def test_the_narrow_interval_of_the_value_in_the_middle_holds_the_truth() -> None:
    # The median minus itself is 0, so that its interval is narrow; the second and third value are hard to tell apart.
    truth, noise = np.array([6.0, -0.28, 0.0]), 0.4 * np.random.default_rng(0).standard_normal((12, 400))
    design = np.tile([0, -1, 1, 2], 3)[:, None]
    outcomes = np.append(truth, truth.mean())[design] + noise
    effects = against_median(least_squares(design, [3], outcomes))
    low, high = interval(effects.estimate, effects.error, effects.freedom)
    wanted = (truth - np.median(truth))[:, None]
    holds, middle = (low <= wanted) & (wanted <= high), effects.middle.argmax(0)
    assert holds[middle, np.arange(400)].mean() >= 0.95 and holds.mean(1).min() >= 0.93
    assert np.median(high[2] - low[2]) < np.median(high[0] - low[0])


def test_an_average_takes_nothing_from_a_part_without_an_error() -> None:
    design, levels, outcomes = trial(
        [np.array([0.5, 0.0, 0.2, -0.1, 0.1])], 96, np.random.default_rng(0).normal(size=(96, 1))
    )
    large = against_median(least_squares(design, levels, outcomes))
    small = replace(large, estimate=large.estimate + 0.8, error=large.error * 2)
    cells = np.ones(5, dtype=bool)
    usual = averaged(small, large, cells)[0]
    error = small.error.copy()
    error[1] = np.nan
    one = averaged(replace(small, error=error), large, cells)[0]
    assert one.estimate[1] == large.estimate[1, 0] and one.error[1] > large.error[1, 0]
    assert one.estimate[0] != large.estimate[0, 0] and np.isfinite(usual.error).all()
    none = averaged(replace(small, error=np.full_like(error, np.nan)), large, cells)[0]
    assert np.array_equal(none.estimate, large.estimate[:, 0]) and np.isnan(none.error).all()


def test_errors_of_many_outcomes_together_are_those_of_each_alone() -> None:
    # Seven and five values: twenty outcomes are more than the values of a group, and one is fewer.
    design, levels, outcomes = trial(EFFECTS, 96, np.random.default_rng(2).normal(0, 1, (96, 20)))
    together = against_median(least_squares(design, levels, outcomes))
    for outcome in range(20):
        alone = against_median(least_squares(design, levels, outcomes[:, [outcome]]))
        assert np.allclose(together.error[:, outcome], alone.error[:, 0], rtol=1e-9)


def test_freedom_of_a_mean_is_pictures_minus_one() -> None:
    # One column of ones and equal leverages: Bell and McCaffrey's formula gives exactly n - 1.
    fit = least_squares(np.zeros((9, 1), dtype=int), [1], np.arange(9.0)[:, None])
    assert freedom_of(fit, np.full((9, 1), 1 / 9)) == pytest.approx(8)


def coverage(effects: list[np.ndarray], pictures: int, noise: np.ndarray) -> np.ndarray:
    fit = against_median(least_squares(*trial(effects, pictures, noise)))
    low, high = interval(fit.estimate, fit.error, fit.freedom)
    truth = against_medians(effects)
    return (low <= truth) & (truth <= high)


def test_coverage_at_twelve_pictures_a_word() -> None:
    # Seed 0, 96 pictures, 12 a value of the first group; normal, skewed, and one value with four times the spread.
    random = np.random.default_rng(0)
    design = balanced_design([7, 5], 96, 3)
    assert (np.bincount(design[:, 0] + 1) == 12).all()
    spread = np.where(design[:, [0]] == 2, 4.0, 1.0)
    for noise in (
        random.normal(0, 1.5, (96, 400)),
        random.exponential(1.5, (96, 400)),
        random.normal(0, 1, (96, 400)) * spread,
    ):
        covered = coverage(EFFECTS, 96, noise)
        assert 0.945 <= covered.mean() <= 0.99 and covered.mean(1).min() >= 0.91


def test_normal_quantiles_and_plain_residuals_would_cover_less() -> None:
    noise = np.random.default_rng(1).standard_normal((96, 400))
    fit = least_squares(*trial(EFFECTS, 96, noise))
    plain = fit.residuals * (1 - fit.leverage)[:, None]
    truth = np.concatenate([EFFECTS[0] + EFFECTS[1].mean(), EFFECTS[1] + EFFECTS[0].mean()])
    half = 1.96 * np.sqrt((fit.rows**2).T @ plain**2)
    assert (np.abs(fit.means - truth[:, None]) <= half).mean() < 0.935


def test_coverage_with_ties_and_with_neighbours_of_the_median() -> None:
    random = np.random.default_rng(2)
    for effects in ([np.zeros(8), np.zeros(5)], [random.normal(0, 1, 8), random.normal(0, 0.3, 9)]):
        covered = coverage(effects, 384, random.normal(0, 1.5, (384, 200)))
        assert 0.94 <= covered.mean() <= 0.985


def test_p_values_of_values_without_effect_are_uniform_down_to_a_thousandth() -> None:
    # Seed 6, 400 pictures, 36 cells, 1,000 outcomes: two-sided p-values of placebo words.
    effects = [np.zeros(k) for k in (8, 8, 4, 9, 7)]
    noise = np.random.default_rng(6).standard_normal((400, 1000))
    fit = against_median(least_squares(*trial(effects, 400, noise)))
    p = 2 * t_above(np.abs(fit.estimate) / fit.error, fit.freedom)
    assert 0.035 <= (p < 0.05).mean() <= 0.055 and 0.006 <= (p < 0.01).mean() <= 0.0125
    assert 0.0003 <= (p < 0.001).mean() <= 0.0015


def test_a_function_added_to_all_logits_changes_no_centred_effect() -> None:
    noise = np.random.default_rng(3).standard_normal((96, 4))
    design, levels, logits = trial(EFFECTS, 96, noise)
    shifted = logits + np.sin(np.arange(96))[:, None] * 5
    first, second = (
        against_median(least_squares(design, levels, raw - raw.mean(1, keepdims=True))) for raw in (logits, shifted)
    )
    assert np.allclose(first.estimate, second.estimate, atol=1e-10) and np.allclose(first.error, second.error)


def test_weights_give_the_effect_in_the_users_distribution() -> None:
    # The first group acts only where the second has value 0: .2 of the captions, .8 of the user's pictures.
    design = balanced_design([3, 5], 768, 0, left_out_share=0.0)
    outcomes = ((design[:, 0] == 0) & (design[:, 1] == 0))[:, None] * 10.0
    weights = np.where(design[:, 1] == 0, 16.0, 1.0)
    plain = against_median(least_squares(design, [3, 5], outcomes))
    moved = against_median(least_squares(design, [3, 5], outcomes, weights))
    assert plain.estimate[0, 0] == pytest.approx(2, abs=0.1) and moved.estimate[0, 0] == pytest.approx(8, abs=0.1)
    assert effective_pictures(np.array([1.0, 1, 1, 3])) == pytest.approx(3)
    with pytest.raises(ValueError, match="weights: wanted an effective number of at least 50"):
        check_effective(np.where(np.arange(768) < 20, 1e4, 1.0))


def test_values_that_no_caption_names_are_nan() -> None:
    design, levels, outcomes = trial(EFFECTS, 96, np.random.default_rng(4).standard_normal((96, 2)))
    design[design[:, 0] == 3, 0] = -1
    effects = against_median(least_squares(design, levels, outcomes))
    assert effects.pictures[3] == 0 and np.isnan(effects.estimate[3]).all() and np.isnan(effects.means[3]).all()
    assert np.isfinite(np.delete(effects.estimate, 3, 0)).all()


@pytest.mark.parametrize("bad", ["shape", "nan", "value", "few"])
def test_refuses(bad: str) -> None:
    design, outcomes = balanced_design([7, 5], 96, 0), np.zeros((96, 2))
    if bad == "shape":
        outcomes = outcomes[:90]
    elif bad == "nan":
        outcomes[3, 1] = np.nan
    elif bad == "value":
        design[0, 0] = 7
    else:
        design, outcomes = design[:8], outcomes[:8]
    with pytest.raises(ValueError, match="wanted"):
        least_squares(design, [7, 5], outcomes)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_picture_that_decides_a_value_alone_leaves_the_other_values_their_degrees_of_freedom(weighted: bool) -> None:
    design, rng = np.repeat(np.arange(3), (1, 199, 100))[:, None], np.random.default_rng(0)
    weights = np.exp(0.3 * rng.standard_normal(300)) if weighted else None
    fit = least_squares(design, (3,), rng.standard_normal((300, 1)), weights)
    found, left = against_median(fit).freedom[:, 0], np.eye(300) - fit.x @ fit.solve
    assert (fit.spread.diagonal() >= 0).all() and np.abs(fit.spread - left @ left.T).max() < 1e-12
    vars(fit)["spread"] = left @ left.T
    assert found == pytest.approx(against_median(fit).freedom[:, 0], rel=1e-9)
    assert weighted or found == pytest.approx([198, 297, 124.3], abs=0.1)
