"""Where half of the words are disobeyed, showing gives the planted effect, and asking half of it."""

from dataclasses import replace

import numpy as np
import pytest

from diffexplain_fast.evidence.calibration import Errors
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.discovery.disobeyed import disobeyed_groups, shown_concepts, told_groups
from diffexplain_fast.methods.discovery.obedience import obedience
from diffexplain_fast.methods.discovery.plan import Plan, context_plan
from diffexplain_fast.methods.discovery.showing import shown_effects, with_showing
from diffexplain_fast.methods.discovery.trial import Measured
from diffexplain_fast.stats.cells import Rule, estimate, judge
from diffexplain_fast.stats.decisions import looks
from diffexplain_fast.stats.distributions import t_above
from diffexplain_fast.stats.multiplicity import holm
from diffexplain_fast.stats.told import told
from tests.auditing import GROUPS, SPOKEN, AnyText

CONCEPTS, PICTURES, EFFECT = Concepts(GROUPS), 768, 6.0
DESERT = CONCEPTS.names.index("background:desert")
RULE = Rule(looks(PICTURES), 0.5, 0.05, "fdr", 0)


def _drawn(obeyed: float, seed: int = 0) -> tuple[Plan, np.ndarray]:
    """Return captions, and the values that the pictures show: as asked in a share of them, else by chance."""
    plan = context_plan(CONCEPTS, SPOKEN, AnyText(), PICTURES, 0).first(PICTURES)  # type: ignore[arg-type]
    rng, shown = np.random.default_rng(seed), plan.asked.design.copy()
    for column, count in enumerate(plan.asked.levels):
        free = rng.random(PICTURES) > obeyed
        shown[free, column] = rng.integers(0, count, free.sum())
    return plan, shown


def _seen(shown: np.ndarray, wrong: float, seed: int = 1) -> tuple[np.ndarray, list[Errors]]:
    """Return what an eye sees that errs in a share of the pictures, and its errors."""
    rng, columns, errors, start = np.random.default_rng(seed), [], [], 0
    for column, count in enumerate(map(len, CONCEPTS.groups.values())):
        said = shown[:, column].copy()
        flipped = rng.random(len(said)) < wrong
        said[flipped] = rng.integers(0, count, flipped.sum())
        columns.append(np.eye(count)[said])
        matrix = (1 - wrong) * np.eye(count) + wrong / count
        errors.append(Errors(np.arange(start, start + count), matrix))
        start += count
    return np.concatenate(columns, 1), errors


def _judged(obeyed: float, wrong: float) -> tuple[float, float, float, float, float]:
    """Return the effect of asking for the desert, and effect, interval and obedience of showing it."""
    plan, shown = _drawn(obeyed)
    seen, errors = _seen(shown, wrong)
    values = 0.5 * np.random.default_rng(2).standard_normal((PICTURES, 1)) + EFFECT * (shown[:, [1]] == 0)
    data = Measured(values, np.zeros((PICTURES, 1), dtype=bool), seen)
    estimated = estimate(plan.asked, values, [None], PICTURES)
    asking = judge(plan.asked, estimated, RULE, 0.02)
    found = with_showing(plan, data, errors, estimated, asking, RULE, CONCEPTS, [None])
    share = obedience(plan.asked.named, seen, errors)[DESERT].share
    at = (DESERT, 0)
    assert share is not None and found.found[at] == 1
    return float(asking.estimate[at]), float(found.estimate[at]), float(found.low[at]), float(found.high[at]), share


@pytest.mark.parametrize("wrong", [0.0, 0.25])
def test_showing_is_right_where_asking_is_half_of_it(wrong: float) -> None:
    asking, showing, low, high, share = _judged(0.4, wrong)
    assert asking == pytest.approx(0.4 * EFFECT, rel=0.2)
    assert showing == pytest.approx(EFFECT, rel=0.1) and low < EFFECT < high
    assert share == pytest.approx(0.4 + 0.6 / 4, abs=0.12)


def test_obeyed_words_are_reported_by_asking() -> None:
    plan, shown = _drawn(1.0)
    seen, errors = _seen(shown, 0.1)
    data = Measured(np.zeros((PICTURES, 1)), np.zeros((PICTURES, 1), dtype=bool), seen)
    assert disobeyed_groups(plan, data, errors) == []
    assert disobeyed_groups(plan, data, None) == [] and disobeyed_groups(plan, replace(data, seen=None), errors) == []


def test_an_eye_that_tells_nothing_is_not_believed() -> None:
    plan, shown = _drawn(0.4)
    seen, errors = _seen(shown, 0.9)
    data = Measured(np.zeros((PICTURES, 1)), np.zeros((PICTURES, 1), dtype=bool), seen)
    assert not any(error.believed for error in errors)
    assert disobeyed_groups(plan, data, errors) == []
    assert all(one.share is None and one.drawable for one in obedience(plan.asked.named, seen, errors))


@pytest.mark.parametrize("wrong", [pytest.param(0.0, marks=pytest.mark.slow), 0.1])
def test_showing_counts_a_target_s_own_object_there_and_not_there_equally(wrong: float) -> None:
    own, errors_of_mean, inside = CONCEPTS.names.index("object:fish"), [], []
    truth = np.zeros(len(CONCEPTS.names))
    truth[DESERT] = EFFECT / 2
    for seed in range(6):
        plan, shown = _drawn(0.8, seed)
        seen, errors = _seen(shown, wrong, seed)
        answered = (shown[:, [0]] == GROUPS["object"].index("fish")) & (shown[:, [1]] == 0)
        values = 0.5 * np.random.default_rng([2, seed]).standard_normal((PICTURES, 1)) + EFFECT * answered
        data = Measured(values, np.zeros((PICTURES, 1), dtype=bool), seen)
        estimated = estimate(plan.asked, values, [own], PICTURES)
        asking = judge(plan.asked, estimated, RULE, 0.02)
        found = with_showing(plan, data, errors, estimated, asking, RULE, CONCEPTS, [own])
        others = [place for place in range(len(truth)) if CONCEPTS.names[place].partition(":")[0] != "object"]
        errors_of_mean.append(found.estimate[DESERT, 0] - truth[DESERT])
        inside += ((found.low[:, 0] <= truth) & (truth <= found.high[:, 0]))[others].tolist()
    assert abs(np.mean(errors_of_mean)) < 0.1 * EFFECT  # pictures as they come would say half of it
    assert np.mean(inside) >= 0.9


def test_the_family_of_effects_of_showing_is_adjusted_by_holm() -> None:
    plan, shown = _drawn(0.4)
    seen, errors = _seen(shown, 0.0)
    values = 0.5 * np.random.default_rng(2).standard_normal((PICTURES, 2)) + EFFECT * (shown[:, [1]] == 0)
    data = Measured(values, np.zeros((PICTURES, 2), dtype=bool), seen)
    for own in (None, CONCEPTS.names.index("object:fish")):
        estimated, rule = estimate(plan.asked, values, [own] * 2, PICTURES), RULE._replace(control="family")
        asking = judge(plan.asked, estimated, rule, 0.02)
        found = with_showing(plan, data, errors, estimated, asking, rule, CONCEPTS, [own] * 2)
        effects = found.effects
        p = t_above(
            np.stack([effects.estimate, -effects.estimate]) / effects.error - 0.5 / effects.error,
            effects.surest_freedom,
        )
        up = found.estimate >= 0
        wanted = holm(p)[:, plan.asked.places]
        assert np.allclose(found.adjusted, np.where(up, wanted[0], wanted[1]), rtol=1e-9)
        assert (effects.surest_freedom < effects.freedom).any() == (own is not None)


@pytest.mark.parametrize("own", [None, CONCEPTS.names.index("object:fish")])
def test_the_arrays_of_an_audit_tell_the_same_effects_of_showing(own: int | None) -> None:
    plan, shown = _drawn(0.8)
    seen, errors = _seen(shown, 0.1)
    values = 0.5 * np.random.default_rng(2).standard_normal((PICTURES, 1)) + EFFECT * (shown[:, [1]] == 0)
    data = Measured(values, np.zeros((PICTURES, 1), dtype=bool), seen)
    estimated = estimate(plan.asked, values, [own], PICTURES)
    wanted = shown_effects(plan, data, errors, estimated.effects, [own], 0.05, CONCEPTS)
    kept = shown_concepts(seen, errors, told_groups(plan, data, errors, CONCEPTS))
    found = told(plan.asked, kept, seen, values, [own], estimated.effects, 0.05)
    assert wanted is not None and wanted.here.any()
    for name in ("estimate", "error", "freedom", "surest_freedom"):
        assert np.array_equal(getattr(found.effects, name), getattr(wanted.effects, name))
    assert np.array_equal(found.low[wanted.here], wanted.low[wanted.here])
    assert np.array_equal(found.high[wanted.here], wanted.high[wanted.here])
