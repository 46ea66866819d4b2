"""Cells of trials: averages over the own object, their errors, and what is found."""

import numpy as np
import pytest

from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.cells import Rule, estimate, judge
from diffexplain_fast.stats.decisions import looks
from diffexplain_fast.stats.design import balanced_design

LEVELS = (8, 5, 3)
OWN = 2
"""Place of the own object."""


def asked(pictures: int = 384, seed: int = 0) -> Asked:
    """Return a balanced design of three groups."""
    return Asked(balanced_design(LEVELS, pictures, seed, 0.0), LEVELS, 3)


def outcomes(captions: Asked, with_own: float, without: float, seed: int, noise: float = 1.0) -> np.ndarray:
    """Return outcomes to which the first value of the second group adds one effect with and one without the object."""
    named, rng = captions.named, np.random.default_rng(seed)
    effect = np.where(named[:, OWN], with_own, without)
    return (noise * rng.standard_normal(len(named)) + effect * named[:, 8] + 3 * named[:, OWN])[:, None]


def test_an_effect_is_the_mean_with_and_without_the_own_object() -> None:
    captions = asked()
    exact = estimate(captions, outcomes(captions, 2.0, 6.0, 0, noise=0.02), [OWN], 384).effects
    assert exact.estimate[8, 0] == pytest.approx(4.0, abs=0.25)
    pooled = estimate(captions, outcomes(captions, 2.0, 6.0, 0, noise=0.02), [None], 384).effects
    assert pooled.estimate[8, 0] == pytest.approx(5.5, abs=0.25)


def test_targets_of_one_object_together_have_the_effects_that_each_has_alone() -> None:
    captions, own = asked(), [OWN, None, OWN + 1, OWN]
    values = np.concatenate([outcomes(captions, with_own, 3.0, seed) for seed, with_own in enumerate((1, 2, 3, 4))], 1)
    together = estimate(captions, values, own, 384).effects
    for target, place in enumerate(own):
        alone = estimate(captions, values[:, [target]], [place], 384).effects
        for name in ("estimate", "error", "freedom"):
            assert np.allclose(getattr(together, name)[:, target], getattr(alone, name)[:, 0], rtol=1e-9), name
    assert np.allclose(together.of([2, 0]).error, together.error[:, [2, 0]])


@pytest.mark.parametrize("with_own", [4.0, *(pytest.param(own, marks=pytest.mark.slow) for own in (2.0, 6.0))])
def test_intervals_hold_the_mean(with_own: float) -> None:
    inside, widths = [], []
    rule = Rule(looks(384), 0.5, 0.05, "fdr", 0)
    for seed in range(60):
        captions = asked(seed=seed)
        estimated = estimate(captions, outcomes(captions, with_own, 4.0, seed), [OWN], 384)
        judged = judge(captions, estimated, rule, 0.015)
        inside += [judged.low[8, 0] <= (with_own + 4) / 2 <= judged.high[8, 0]]
        inside += (np.abs(judged.estimate[9:16, 0]) <= (judged.high - judged.low)[9:16, 0] / 2).tolist()
        widths.append(float((judged.high - judged.low)[9:16, 0].mean()))
    assert np.mean(inside) >= 0.93 and np.mean(widths) < 1.2


@pytest.mark.slow
def test_more_pictures_of_own_objects_make_effects_surer_and_leave_them_as_they_are() -> None:
    inside, other, errors = [], [], {0: list[float](), 192: list[float]()}
    designs = [(asked(seed=seed), asked(192, seed + 1000)) for seed in range(2)]
    for captions, more in designs:
        more.design[:, 0] = OWN
        for count, found in errors.items():
            part = captions.and_more({OWN: more}) if count else captions
            for seed in range(20):
                values = outcomes(part, 3.0, 1.0, seed)
                estimated = estimate(part, values, [OWN], len(values)).effects
                found.append(float(estimated.error[8, 0]))
                if count:
                    inside.append(abs(estimated.estimate[8, 0] - 2.0) <= 2 * estimated.error[8, 0])
                    other.append(float(estimate(part, values, [None], len(values)).effects.estimate[8, 0]))
    assert np.mean(inside) >= 0.9
    assert np.mean(errors[192]) < 0.7 * np.mean(errors[0])
    assert np.mean(other) == pytest.approx(1.25, abs=0.1), "in all pictures: one object in eight, as before"


def test_weights_of_more_pictures_are_the_share_of_densities() -> None:
    captions, fish, cat = asked(), asked(96, 5), asked(48, 6)
    fish.design[:, 0], cat.design[:, 0] = OWN, 4
    every = captions.and_more({OWN: fish, 4: cat})
    assert len(every.design) == 528 and every.weights is not None
    weight = {place: np.unique(every.weights[every.named[:, place]].round(12)) for place in (OWN, 4, 5)}
    assert weight[OWN] == pytest.approx(48 / (48 + 96)) and weight[4] == pytest.approx(0.5) and weight[5] == 1
    # The weighted sums of all values are those of the first pictures, up to the balance of the others.
    assert every.weights @ every.named[:, :8] == pytest.approx(captions.named[:, :8].sum(0))
    half = Asked(captions.design, LEVELS, 3, np.full(384, 0.5)).and_more(
        {OWN: Asked(fish.design, LEVELS, 3, np.full(96, 0.5))}
    )
    assert half.weights == pytest.approx(0.5 * captions.and_more({OWN: fish}).weights)


def test_a_look_that_is_too_early_has_no_estimate_and_decides_nothing() -> None:
    captions = asked(48)
    early = estimate(captions, outcomes(captions, 4.0, 4.0, 0), [OWN], 384)
    assert np.isnan(early.effects.estimate[8:, 0]).all() and np.isfinite(early.effects.estimate[:8, 0]).all()
    judged = judge(captions, early, Rule(looks(384), 0.5, 0.05, "fdr", 0), 0.005)
    assert (judged.names[8:, 0] == "undecided").all()
    only = estimate(captions, outcomes(captions, 4.0, 4.0, 0), [OWN], 48)
    assert only.effects.estimate[8, 0] == pytest.approx(4.0, abs=1.0)


@pytest.mark.slow
def test_nothing_is_found_where_nothing_is() -> None:
    found = 0
    for seed in range(20):
        captions = asked(seed=seed)
        values = np.random.default_rng(seed).standard_normal((384, 6))
        own: list[int | None] = [0, 1, 2, 3, None, None]
        judged = judge(captions, estimate(captions, values, own, 384), Rule(looks(384), 0.5, 0.05, "fdr", 0), 0.05)
        found += int((judged.found != 0).any())
    assert found <= 2


def test_the_family_is_controlled_by_the_largest_t() -> None:
    captions = asked()
    values = np.random.default_rng(0).standard_normal((384, 3))
    values[:, 0] += 4 * captions.named[:, 9]
    judged = judge(captions, estimate(captions, values, [OWN] * 3, 384), Rule(looks(384), 0.5, 0.05, "family", 0), 0.05)
    assert judged.found[9, 0] == 1 and np.count_nonzero(judged.found) == 1


def bags(pictures: int, count: int, share: float) -> Asked:
    """Return captions that hold each of some free words with the same probability."""
    said = np.random.default_rng(0).random((pictures, count)) < share
    return Asked(said.astype(np.int64), (2,) * count, 0)


@pytest.mark.parametrize("often", [False, True])
def test_words_that_hardly_meet_the_own_object_keep_the_effect_of_all_pictures(often: bool) -> None:
    captions = bags(256, 6, 0.5) if often else bags(160, 20, 0.1)
    named, rng, pictures = captions.named, np.random.default_rng(1), len(captions.design)
    values = (6 * named[:, 5] * ~named[:, OWN] + rng.standard_normal(pictures))[:, None]
    averaged, pooled = (estimate(captions, values, own, pictures).effects for own in ([OWN], [None]))
    others = np.repeat(np.arange(named.shape[1]) != OWN, 2)
    assert np.isfinite(averaged.estimate[others]).all() and np.isfinite(averaged.error[others]).all()
    same = np.isclose(averaged.estimate, pooled.estimate)[others]
    assert same.all() if not often else not same.any()
    if often:  # the word counts only where the object is not asked for
        assert averaged.estimate[11, 0] == pytest.approx(3.0, abs=0.4)


def test_every_look_decides_alike_which_words_are_averaged() -> None:
    captions = bags(192, 6, 0.4)
    said = captions.named[captions.named[:, OWN]].sum(0)
    captions.design[captions.named[:, OWN], 4] = 0  # never together with the own object
    values = (3 * captions.design[:, [4]] + np.random.default_rng(1).standard_normal((192, 1))).astype(float)
    parts = [captions.part(slice(count)) for count in (32, 192)]
    early, late = (estimate(part, values[: len(part.design)], [OWN], 192, captions).effects for part in parts)
    pooled = estimate(parts[0], values[:32], [None], 192).effects
    rare, others = np.repeat(np.arange(6) == 4, 2), np.repeat((np.arange(6) != 4) & (np.arange(6) != OWN), 2)
    assert said.min() >= 8 and np.isfinite(late.estimate[rare | others]).all()
    assert early.estimate[rare] == pytest.approx(pooled.estimate[rare])
    assert np.isnan(early.estimate[others]).any()  # too early for an average, and nothing else takes its place
    averages = early.estimate[others][np.isfinite(early.estimate[others])]
    assert not np.isclose(averages, pooled.estimate[others][np.isfinite(early.estimate[others])]).any()


def test_the_family_of_averaged_effects_stays_clean_where_they_differ_with_the_own_object() -> None:
    # Beside the own object every value does the opposite of what it does elsewhere, so that no average is an effect.
    levels, wrong, every = (6, 5, 5, 5, 5), [], []
    design = balanced_design(levels, 96, 0)
    captions, random = Asked(design, levels, 5), np.random.default_rng(1)
    turned = np.where(captions.named[:, 0], 1.0, -1.0)[:, None]
    for audit in range(60):
        values = 0.5 * random.standard_normal((96, 4))
        for group in range(1, 5):
            added = random.standard_normal((5, 4))
            values += turned * (added - np.median(added, 0))[design[:, group]]
        estimated = estimate(captions, values, [0] * 4, 96)
        judged = judge(captions, estimated, Rule((), 0.0, 0.05, "family", audit), 0.05)
        wrong.append((judged.found[6:] != 0).any())
        every.append(estimated.fit is None and estimated.effects.fewest is not None)
    assert all(every) and np.mean(wrong) <= 0.05  # .67 against the largest t of the pooled regression
    alone = estimate(captions, values, [None] * 4, 96)
    assert alone.fit is not None and (alone.effects.surest_freedom == alone.effects.freedom).all()


def test_an_average_is_no_surer_than_its_smaller_part() -> None:
    captions = asked(96)
    effects = estimate(captions, outcomes(captions, 0.0, 0.0, 0), [OWN], 96).effects
    assert (effects.surest_freedom[8:, 0] < effects.freedom[8:, 0]).all()
    assert np.isfinite(effects.surest_freedom).all() and effects.of([0]).fewest is not None
