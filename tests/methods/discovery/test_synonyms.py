"""Several words for one value: how they are said, and whether they are found to carry something else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffexplain_fast.evidence.calibration import Errors
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.phrases import reworded
from diffexplain_fast.methods.discovery.plan import Plan, context_plan
from diffexplain_fast.methods.discovery.showing import shown_effects, with_showing
from diffexplain_fast.methods.discovery.trial import Measured
from diffexplain_fast.stats.cells import Judged, Rule, estimate, judge
from diffexplain_fast.stats.decisions import looks
from tests.auditing import GROUPS, SPOKEN, AnyText, quick_audit

SYNONYMS = {"background:desert": ["sand", "dunes", "waste"], "background:sea": ["ocean"]}
CONCEPTS, PICTURES, EFFECT = Concepts(GROUPS, synonyms=SYNONYMS), 768, 4.0
DESERT = CONCEPTS.names.index("background:desert")
REFUSED = {
    "a free word": ({"word:striped": ["lined"]}, "concepts, synonyms: wanted values of groups"),
    "an unknown value": ({"background:moon": ["lunar"]}, "concepts, synonyms: wanted values of groups"),
    "absence": ({"companion:nothing": ["alone"]}, "concepts, synonyms: wanted values of groups"),
    "another value": ({"background:desert": ["snow"]}, "synonyms of background:desert: wanted words of no other value"),
    "the word itself": ({"background:desert": ["desert"]}, "wanted words of no other value"),
    "none": ({"background:desert": []}, "wanted at least one value"),
}


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Return a plan in which deserts have four words."""
    return context_plan(CONCEPTS, SPOKEN, AnyText(), PICTURES, 0).first(PICTURES)  # type: ignore[arg-type]


def measured(plan: Plan, carried: float, seed: int = 0) -> tuple[Measured, list[Errors]]:
    """Return what is said where .7 of the words are obeyed, and "dunes" does more than a desert.

    Args:
        plan: the captions.
        carried: what "dunes" adds to the outcome beside the desert.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    shown, seen, errors, start = plan.asked.design.copy(), [], [], 0
    for column, count in enumerate(plan.asked.levels):
        free = rng.random(PICTURES) > 0.7
        shown[free, column] = rng.integers(0, count, free.sum())
        seen.append(np.eye(count)[shown[:, column]])
        errors.append(Errors(np.arange(start, start + count), np.eye(count)))
        start += count
    dunes = plan.words[:, 1] == [word for word, _ in CONCEPTS.words_of("background")].index("dunes")
    values = EFFECT * (shown[:, [1]] == 0) + carried * dunes[:, None] + 0.5 * rng.standard_normal((PICTURES, 1))
    return Measured(values, np.zeros((PICTURES, 1), dtype=bool), np.concatenate(seen, 1)), errors


def judged(plan: Plan, carried: float, seed: int = 0) -> Judged:
    """Return the cells of a trial; see ``measured``."""
    data, errors = measured(plan, carried, seed)
    rule = Rule(looks(PICTURES), 0.5, 0.05, "fdr", 0)
    estimated = estimate(plan.asked, data.values, [None], PICTURES)
    asking = judge(plan.asked, estimated, rule, 0.02)
    return with_showing(plan, data, errors, estimated, asking, rule, CONCEPTS, [None])


@pytest.mark.parametrize("name", REFUSED)
def test_bad_synonyms_are_refused(name: str) -> None:
    given, message = REFUSED[name]
    groups = {**GROUPS, "companion": ["sun", "nothing"]}
    with pytest.raises(ValueError, match=message):
        Concepts(groups, words=["striped"], synonyms=given)


def test_every_word_of_a_value_is_said_equally_often(plan: Plan) -> None:
    words = [word for word, _ in CONCEPTS.words_of("background")]
    assert words == ["desert", "sand", "dunes", "waste", "snow", "sea", "ocean", "grass"]
    counts = np.array([sum(word in text.split() for text in plan.captions) for word in words])
    assert counts == pytest.approx([48, 48, 48, 48, 192, 96, 96, 192], abs=1)
    names = plan.asked.design[:, 1]
    assert all(words[number] in text for number, text in zip(plan.words[:, 1], plan.captions, strict=True))
    assert (np.array([0, 0, 0, 0, 1, 2, 2, 3])[plan.words[:, 1]] == names).all()
    shorter = context_plan(CONCEPTS, SPOKEN, AnyText(), 96, 0)  # type: ignore[arg-type]
    assert shorter.captions == plan.captions[:96]
    assert reworded("a seal on sea", {"sea": "ocean"}) == "a seal on ocean"


def test_words_that_carry_something_else_are_found_and_do_not_move_the_effect(plan: Plan) -> None:
    found = judged(plan, 2.0)
    assert found.words_p is not None and found.disagree is not None
    assert found.disagree[DESERT, 0] and np.flatnonzero(found.disagree[:, 0]).tolist() == [DESERT]
    assert np.isfinite(found.words_p[:, 0]).sum() == 1  # a value with two words is not tested
    assert found.estimate[DESERT, 0] == pytest.approx(EFFECT, abs=0.35)
    assert found.low[DESERT, 0] < EFFECT < found.high[DESERT, 0]


@pytest.mark.slow
def test_words_that_act_through_the_value_only_agree(plan: Plan) -> None:
    rejected, inside = 0, 0
    for seed in range(30):
        found = judged(plan, 0.0, seed)
        assert found.disagree is not None
        rejected += int(found.disagree[DESERT, 0])
        inside += int(found.low[DESERT, 0] <= EFFECT <= found.high[DESERT, 0])
    assert rejected <= 4 and inside >= 26


def test_classifiers_together_have_the_effects_that_each_has_alone(plan: Plan) -> None:
    data, errors = measured(plan, 2.0)
    noise = np.random.default_rng(1).standard_normal((PICTURES, 3))
    data = replace(data, values=data.values * [1.0, 0.5, 0.0] + noise * [0.0, 1.0, 1.0])
    families, own = [range(1), range(1, 3)], [None, 0, 0]
    asking = estimate(plan.asked, data.values, own, PICTURES).effects
    together = shown_effects(plan, data, errors, asking, own, 0.05, CONCEPTS, families)
    assert together is not None and together.disagree[:, 0].any() and not together.disagree[:, 2].any()
    for part in families:
        said = replace(data, values=data.values[:, part])
        alone = shown_effects(plan, said, errors, asking.of(part), own[part.start : part.stop], 0.05, CONCEPTS)
        assert alone is not None and np.array_equal(together.disagree[:, part], alone.disagree)
        for name in ("low", "high", "p"):
            assert np.allclose(getattr(together, name)[:, part], getattr(alone, name), equal_nan=True), name
        for name in ("estimate", "error", "freedom"):
            assert np.allclose(getattr(together.effects, name)[:, part], getattr(alone.effects, name)), name


def test_an_audit_says_synonyms_and_records_them(tmp_path: Path) -> None:
    groups = {"background": ["desert", "snow"], "colour": ["red", "blue"]}
    audit = quick_audit(tmp_path, concepts=Concepts(groups, synonyms={"background:desert": ["house"]}))
    assert audit.settings["concepts"]["synonyms"] == {"background:desert": ["house"]}
    assert all(row.words_p is None and not row.words_disagree for row in audit.rows)
    with pytest.raises(ValueError, match="got zebra, cut into letters"):
        quick_audit(tmp_path, concepts=Concepts(groups, synonyms={"background:desert": ["zebra"]}))
