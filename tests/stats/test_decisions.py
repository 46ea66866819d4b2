"""Findings of audits that grow, by simulation: false ones are as rare as the levels say, true ones are found."""

import numpy as np
import pytest

from diffexplain_fast.stats.bootstrap import draws_for, family_adjusted, largest_t
from diffexplain_fast.stats.decisions import Control, classify, findings, looks, one_sided_tests, reported_interval
from diffexplain_fast.stats.design import balanced_design
from diffexplain_fast.stats.effects import Effects, against_median
from diffexplain_fast.stats.multiplicity import holm
from diffexplain_fast.stats.regression import least_squares
from tests.stats.trials import against_medians, trial

CLEAN = [np.zeros(5), np.zeros(4)]


def part(effects: Effects, outcome: int) -> Effects:
    """Return one outcome of many, as an audit of its own."""
    names = ("estimate", "error", "freedom", "means", "medians", "middle")
    return Effects(effects.levels, pictures=effects.pictures, **{n: getattr(effects, n)[:, [outcome]] for n in names})


def test_looks() -> None:
    assert looks(768) == ((96, 0.005), (192, 0.01), (384, 0.015), (768, 0.02))
    assert looks(400) == ((96, 0.005), (192, 0.01), (400, 0.035)) and looks(48) == ((48, 0.05),)
    assert looks(1536)[-1] == (1536, 0.02) and sum(look.level for look in looks(5000, 0.1)) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="pictures: wanted"):
        looks(0)


def test_growth_on_clean_outcomes_finds_anything_as_rarely_as_the_levels_say() -> None:
    # Seed 0, 600 clean audits of 9 cells in both directions, minimal effect 0, so that every finding is false.
    noise = np.random.default_rng(0).standard_normal((768, 600))
    design, levels, outcomes = trial(CLEAN, 768, noise)
    ours, careless = np.zeros(600, dtype=bool), np.zeros(600, dtype=bool)
    for look in looks(768, 0.2):
        effects = against_median(least_squares(design[: look.pictures], levels, outcomes[: look.pictures]))
        for audit in range(600):
            tests = one_sided_tests(part(effects, audit), delta=0.0)
            ours[audit] |= (findings(tests, look.level) != 0).any()
            careless[audit] |= (findings(tests, 0.2) != 0).any()
    assert ours.mean() <= 0.2 + 2 * np.sqrt(0.2 * 0.8 / 600)
    assert careless.mean() > 0.2 + 2 * np.sqrt(0.2 * 0.8 / 600)


def test_false_discovery_rate_of_both_tests_together() -> None:
    # Seed 1, 300 audits; effects of exactly the minimal effect count as false, 1.5 is true, and the median is 0.
    effects = [np.array([0.0, 0.0, 0.0, 0.0, 0.5, -0.5, 1.5, 1.5, -1.5]), np.array([0.0, 0.0, 0.0, 0.5, 1.5])]
    true = np.abs(against_medians(effects)) > 1
    noise = np.random.default_rng(1).standard_normal((384, 300))
    fitted = against_median(least_squares(*trial(effects, 384, noise)))
    found = np.stack([findings(one_sided_tests(part(fitted, audit)), 0.05)[:, 0] for audit in range(300)], 1)
    wrong = (found != 0) & ~true
    assert (wrong.sum(0) / np.maximum((found != 0).sum(0), 1)).mean() <= 0.06 and wrong.any()
    assert ((found == np.sign(against_medians(effects))) & true).sum() / (true.sum() * 300) > 0.8


def test_largest_t_keeps_the_family_clean_where_single_tests_do_not() -> None:
    # Seed 2, 80 clean audits of 4 outcomes that share noise, 96 pictures of unequal spread, minimal effect 0.
    random = np.random.default_rng(2)
    design = balanced_design([5, 4], 96, 3)
    spread = np.where(design[:, [1]] == 0, 2.0, 1.0)
    family, single = [], []
    for audit in range(80):
        noise = (random.standard_normal((96, 1)) + random.standard_normal((96, 4))) * spread
        fit = least_squares(*trial(CLEAN, 96, noise))
        tests = one_sided_tests(against_median(fit), 0.0, "family", fit=fit, seed=audit)
        family.append(min(tests.adjusted_above.min(), tests.adjusted_below.min()) <= 0.2)
        single.append(min(tests.above.min(), tests.below.min()) <= 0.2)
    assert np.mean(family) <= 0.2 + 2 * np.sqrt(0.16 / 80) and np.mean(single) > 0.8
    assert np.mean(family) > 0.02  # a bootstrap that rejects nothing would be of no use


def test_largest_t_finds_a_planted_effect_and_spares_what_is_not_tested() -> None:
    noise = np.random.default_rng(3).standard_normal((384, 2))
    fit = least_squares(*trial([np.array([3.0, 0, 0, 0, 0]), np.zeros(4)], 384, noise))
    effects = against_median(fit)
    tested = np.ones((9, 2), dtype=bool)
    tested[0] = False
    tests = one_sided_tests(effects, 0.5, "family", tested, fit)
    assert np.isnan(tests.above[0]).all() and (findings(tests, 0.05) == 0).all()
    everything = one_sided_tests(effects, 0.5, "family", fit=fit)
    assert (findings(everything, 0.005)[0] == 1).all() and (findings(everything, 0.005)[1:] == 0).all()
    wide = largest_t(fit, effects, np.ones((9, 2), dtype=bool))
    narrow = largest_t(fit, effects, tested)
    assert (narrow <= wide + 1e-12).all() and (narrow < wide - 0.1).any()
    alone = one_sided_tests(effects, 0.5, "family")
    assert np.array_equal(alone.adjusted_above, holm(np.stack([alone.above, alone.below]))[0])
    with pytest.raises(ValueError, match="control: wanted"):
        one_sided_tests(effects, 0.5, "all")  # type: ignore[arg-type]


def test_family_adjusted_by_hand() -> None:
    adjusted = family_adjusted(np.array([2.5, 0.0, np.nan, 9.0]), np.array([1.0, 2.0, 3.0]))
    assert np.allclose(adjusted, [0.5, 1, np.nan, 0.25], equal_nan=True)


def test_no_verdict_under_twelve_pictures_and_findings_stay() -> None:
    noise = np.random.default_rng(4).standard_normal((96, 1))
    effects = against_median(least_squares(*trial([np.append(9.0, np.zeros(8)), np.zeros(4)], 96, noise)))
    tests = one_sided_tests(effects)
    assert (effects.pictures[:9] < 12).all() and not tests.tested[:9].any() and tests.tested[9:].all()
    low, high = reported_interval(effects, findings(tests, 0.05), tests.tested)
    assert classify(effects.estimate, low, high, findings(tests, 0.05), tests.tested)[0, 0] == "undecided"
    earlier = np.zeros((13, 1), dtype=int)
    earlier[0] = 1
    assert findings(tests, 0.005, earlier)[0, 0] == 1


def test_adjusted_interval_of_a_finding_is_above_the_minimal_effect_and_control_any_is_stricter() -> None:
    noise = np.random.default_rng(5).standard_normal((384, 20))
    effects = against_median(least_squares(*trial([np.array([1.1, 0, 0, 0, -1.3]), np.zeros(4)], 384, noise)))
    tests = one_sided_tests(effects)
    found = findings(tests, 0.05)
    low, high = reported_interval(effects, found, tests.tested)
    assert (found > 0).sum() > 5 and (low[found > 0] > 0.5).all() and (high[found < 0] < -0.5).all()
    plain = reported_interval(effects, np.zeros_like(found), tests.tested)
    assert (low[found != 0] < plain[0][found != 0]).all() and (low[found == 0] == plain[0][found == 0]).all()
    assert (findings(one_sided_tests(effects, control="any"), 0.05) != 0).sum() < (found != 0).sum()


def test_names_of_cells() -> None:
    estimate = np.array([2.0, 0.1, 0.75, 1.4, 0.4, -2.0])
    low = np.array([1.0, -0.3, 0.3, 0.3, -0.9, -3.0])
    high = np.array([3.0, 0.5, 1.2, 2.5, 1.7, -1.0])
    found = np.array([1, 0, 0, 0, 0, -1])
    names = classify(estimate, low, high, found, np.ones(6, dtype=bool))
    assert names.tolist() == ["finding", "none", "small", "undecided", "undecided", "finding"]


def test_a_family_at_a_small_level_can_find_something() -> None:
    design, random = balanced_design([4, 4], 192, 0), np.random.default_rng(0)
    values = 0.1 * random.standard_normal((192, 1)) + 50 * (design[:, [1]] == 1)
    fit = least_squares(design, [4, 4], values)
    for level in (0.05, 0.005, 0.001, 0.0001):
        tests = one_sided_tests(against_median(fit), 0.5, "family", fit=fit, level=level)
        assert np.flatnonzero(findings(tests, level)[:, 0]).tolist() == [5]
    assert [draws_for(level) for level in (0.5, 0.05, 0.02, 0.005, 0.001, 0.0009)] == [999, 999, 999, 3999, 19999, None]
    many = largest_t(fit, against_median(fit), np.ones((8, 1), dtype=bool), 1500)
    assert len(many) == 1500 and np.array_equal(many[:999], largest_t(fit, against_median(fit), np.ones((8, 1), bool)))


@pytest.mark.parametrize("control", ["fdr", "any", "family"])
@pytest.mark.parametrize("rounding", [0.0, 3e-8])
def test_rounding_is_no_finding_where_any_effect_is_one(control: Control, rounding: float) -> None:
    # Three values of 32 have an effect, an exact one; all else is rounding, also that of answers in float32.
    for seed in range(6):
        design = balanced_design((8, 6, 4), 192, seed)
        outcomes = 8.0 * (design[:, 1] == 2) - 0.1 * (design[:, 0] == 3)
        outcomes = np.stack([outcomes, -outcomes], 1)
        outcomes += rounding * 8 * np.random.default_rng(seed).choice([-1, 0, 1], outcomes.shape)
        fit = least_squares(design, (8, 6, 4), outcomes - outcomes.mean(1, keepdims=True))
        effects = against_median(fit)
        for delta, wanted in ((0.0, {3, 10}), (0.1, {10})):  # an effect of exactly the minimal one is not above it
            found = findings(one_sided_tests(effects, delta, control, fit=fit), 0.05)
            assert {*np.flatnonzero(found.any(1)).tolist()} == wanted
