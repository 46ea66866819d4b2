"""Pictures of own objects beside the shared pool: who gets them, what they cost of the level, and what they decide."""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.discovery.drawn import pictures_beside
from diffexplain_fast.methods.discovery.options import AuditOptions
from diffexplain_fast.methods.discovery.plan import Plan, context_plan, own_plan
from diffexplain_fast.methods.discovery.trial import Measured, Ran, run_trial
from tests.auditing import GROUPS, SPOKEN, AnyText, quick_audit

CONCEPTS, PIPELINE = Concepts(GROUPS), AnyText()
TREE, FISH = 0, 1
"""Places of the targets."""
OWN = [CONCEPTS.names.index("object:tree"), CONCEPTS.names.index("object:fish")]
DESERT = CONCEPTS.names.index("background:desert")
EFFECT = 1.8
"""What a desert adds to a fish beside its own object; without it, nothing."""


def answers(captions: Plan, seed: int) -> Measured:
    """Return answers of two targets: the first is clear, the second answers to a desert beside its own object only."""
    named, random = captions.asked.named, np.random.default_rng(seed)
    values = np.stack([0.02 * random.standard_normal(len(named)), random.standard_normal(len(named))], 1)
    values[:, FISH] += EFFECT * named[:, DESERT] * named[:, OWN[FISH]]
    return Measured(values, values > 1, None)


@cache
def shared(seed: int) -> Plan:
    """Return captions that serve every class."""
    return context_plan(CONCEPTS, SPOKEN, PIPELINE, 384, seed)  # type: ignore[arg-type]


@cache
def of_own(seed: int, place: int) -> Plan:
    """Return captions of a target's own object."""
    own = CONCEPTS.names[OWN[place]].partition(":")[::2]
    return own_plan(CONCEPTS, SPOKEN, PIPELINE, 192, seed, own)  # type: ignore[arg-type]


class Drawing:
    """A pool, and a readout, of pictures that are their own numbers."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.said = answers(plan, seed)

    def pictures(self, stage: str, captions: Sequence[str], first: int, last: int, report: Any) -> Any:
        """Yield the numbers of the pictures."""
        yield slice(first, last)

    def as_pixels(self, levels: slice) -> slice:
        """Return them."""
        return levels

    def __call__(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return what is said of the pictures."""
        return self.said.values[rows], self.said.hits[rows]


def ran(seed: int, options: AuditOptions) -> tuple[Ran, list[int]]:
    """Return a trial of 384 pictures, and the targets that got pictures of their own object."""
    plan = shared(seed)
    drawing: Any = Drawing(plan, seed)
    asked: list[int] = []

    def beside(places: Sequence[int]) -> Mapping[int, tuple[Plan, Measured]]:
        asked.extend(places)
        found = {}
        for place in places:
            more = of_own(seed, place).first(options.beside)
            found[place] = more, answers(more, seed + 500)
        return found

    rule = options.rule(True, False, 0)
    return run_trial(drawing, plan, drawing, OWN, None, rule, lambda done, total: None, None, beside), asked


def test_only_a_target_with_something_undecided_gets_them_and_they_find_more() -> None:
    found = dict.fromkeys((0, 192), 0)
    for seed in range(8):
        for own in found:
            one, asked = ran(seed, AuditOptions(pictures=384, own_pictures=own))
            assert TREE not in asked and set(one.beside) <= {FISH}
            found[own] += int(one.judged.found[DESERT, FISH])
            assert not (one.judged.found[:, TREE] != 0).any()
    assert found[192] >= found[0] + 4, found


def test_two_targets_with_one_own_object_share_its_pictures() -> None:
    plan, more = shared(1), of_own(1, FISH)
    drawing: Any = Drawing(plan, 1)
    options, asked = AuditOptions(pictures=384, own_pictures=192), list[int]()

    def beside(places: Sequence[int]) -> Mapping[int, tuple[Plan, Measured]]:
        asked.extend(places)
        return {place: (more, answers(more, 500)) for place in places}

    rule = options.rule(True, False, 0)
    same = [OWN[FISH], OWN[FISH]]
    found = run_trial(drawing, plan, drawing, same, None, rule, lambda done, total: None, None, beside)
    assert len(asked) == 1 and len(found.every[0].captions) == len(found.every[1].values) == 384 + 192


def test_the_level_is_spent_once() -> None:
    for pictures in (48, 400, 1536):
        options = AuditOptions(pictures=pictures)
        for beside in (False, True):
            for shown in (False, True):
                rule = options.rule(beside, shown, 0)
                spent = [*(look.level for look in rule.looks), rule.own_level, rule.shown]
                assert sum(spent) == pytest.approx(0.05), (beside, shown)
                assert (rule.own_level > 0) == beside and (rule.shown > 0) == shown
                assert rule.own_level in (0, rule.looks[-1].level)


def test_how_many_there_are() -> None:
    assert [AuditOptions(pictures=n).beside for n in (24, 383, 384, 767, 768)] == [0, 0, 96, 96, 192]
    assert AuditOptions(own_pictures=50).beside == 50 and AuditOptions(own_pictures=0).beside == 0
    assert AuditOptions(redraw=2).beside == 0 == AuditOptions(redraw=2, own_pictures=50).beside


def test_at_most_sixteen_classes_get_them_unasked() -> None:
    assert AuditOptions().most_beside == 16 and AuditOptions(own_pictures=9).most_beside is None
    drawn: list[int] = []

    def captions(place: int) -> Any:
        drawn.append(place)
        return SimpleNamespace(stage="own", captions=["a"], asked=None)

    def answer(pixels: Any) -> Any:
        return np.zeros((1, 1)), np.zeros((1, 1), dtype=bool)

    pool: Any = SimpleNamespace(pictures=lambda *given: iter([0]), as_pixels=lambda levels: levels)
    question: Any = SimpleNamespace(pool=pool, readout=answer, sight=None)
    beside = {place: partial(captions, place) for place in range(30)}
    for options, count in ((AuditOptions(), 16), (AuditOptions(own_pictures=9), 29)):
        drawn.clear()
        prepared: Any = SimpleNamespace(question=question, beside=beside, options=options)
        places = [40, *range(29, 0, -1)]
        assert list(pictures_beside(prepared, places, lambda done, total: None)) == drawn == places[1 : count + 1]


def test_an_audit_draws_them_once_and_says_so(tmp_path: Path) -> None:
    concepts = {"object": ["boat", "fish", "tree", "house"], "background": ["desert", "snow"]}
    first = quick_audit(tmp_path, concepts=concepts, own_pictures=24)
    beside = first.settings["pictures_beside"]
    assert beside and set(beside.values()) == {24}
    drawn = first.settings["pictures_drawn"]
    assert drawn == 24 + sum(beside.values())
    again = quick_audit(tmp_path, concepts=concepts, own_pictures=24)
    assert again.settings["pictures_drawn"] == 0
    assert [(row.effect, row.low, row.high) for row in again.rows] == [
        (row.effect, row.low, row.high) for row in first.rows
    ]
    without = quick_audit(tmp_path, concepts=concepts, own_pictures=0)
    assert without.settings["pictures_beside"] == {} and without.settings["pictures_drawn"] == 0
