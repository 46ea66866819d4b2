"""Pictures that do not show what was asked for are drawn again: which ones, how often, and what that changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from diffexplain_fast.evidence.calibration import Errors, Sight
from diffexplain_fast.methods.discovery import redraw
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.methods.discovery.redraw import agrees, redrawn, seen_groups
from diffexplain_fast.methods.discovery.trial import Measured
from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.design import balanced_design
from diffexplain_fast.stats.effects import against_median
from diffexplain_fast.stats.regression import least_squares
from tests.auditing import quick_audit

LEVELS, PICTURES, OBEYED, EFFECT = (4, 3), 192, 0.5, 4.0


class Generator:
    """A generator that obeys each word of half of the pictures, and a classifier that sees value 0 of the first group.

    It stands in for the pool and the classifier: ``measured`` asks it instead.
    """

    def __init__(self, plan: Plan) -> None:
        self.rng, self.design = np.random.default_rng(0), dict(zip(plan.captions, plan.asked.design, strict=True))
        self.drawn: list[int] = []

    def __call__(self, pool: Any, plan: Plan, *rest: Any) -> Measured:
        wanted = np.stack([self.design[text] for text in plan.captions])
        self.drawn.append(len(wanted))
        shown = wanted.copy()
        for column, count in enumerate(LEVELS):
            free = self.rng.random(len(shown)) > OBEYED
            shown[free, column] = self.rng.integers(0, count, free.sum())
        values = EFFECT * (shown[:, :1] == 0) + 0.3 * self.rng.standard_normal((len(shown), 1))
        seen = np.concatenate([np.eye(count)[shown[:, column]] for column, count in enumerate(LEVELS)], 1)
        return Measured(values, values > 2, seen)


def plan_of(pictures: int = PICTURES) -> Plan:
    """Return a plan with captions that are numbers."""
    asked = Asked(balanced_design(LEVELS, pictures, 0, 0.0), LEVELS, 2)
    captions = tuple(str(number) for number in range(pictures))
    return Plan("context", captions, asked, np.zeros(pictures, dtype=np.int64), asked.design)


def effect(plan: Plan, data: Measured) -> float:
    """Return the effect of the first value of the first group."""
    return float(against_median(least_squares(plan.asked.design, LEVELS, data.values)).estimate[0, 0])


def test_effects_are_those_of_showing_once_the_eye_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, groups = plan_of(), [np.arange(4), np.arange(4, 7)]
    generator = Generator(plan)
    monkeypatch.setattr(redraw, "measured", generator)
    first = generator(None, plan)
    nothing: Any = None
    again = redrawn(nothing, plan, nothing, nothing, groups, first, 0, 12, lambda done, total: None)
    assert again.seen is not None and first.seen is not None
    assert agrees(plan.asked.named, first.seen, groups).mean() < 0.6
    assert agrees(plan.asked.named, again.seen, groups).mean() > 0.98
    assert effect(plan, first) == pytest.approx(OBEYED * EFFECT, abs=0.6)
    assert effect(plan, again) == pytest.approx(EFFECT, abs=0.25)
    kept = agrees(plan.asked.named, first.seen, groups)
    assert (again.values[kept] == first.values[kept]).all()  # what was right is not drawn again
    assert generator.drawn == sorted(generator.drawn, reverse=True) and generator.drawn[1] == (~kept).sum()


def test_an_eye_agrees_where_it_sees_every_named_value_or_cannot_tell() -> None:
    asked = np.array([[1, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 1], [0, 1, 0, 1]], dtype=bool)
    seen = np.array([[1, 0, 0, 1], [1, 0, 0, 1], [0, 1, np.nan, np.nan], [1, 0, 0, 1]])
    groups = [np.array([0, 1]), np.array([2, 3])]
    assert agrees(asked, seen, groups).tolist() == [False, True, True, False]
    assert agrees(asked, seen, groups[:1]).tolist() == [True, True, True, False]


def test_groups_that_the_eye_cannot_tell_do_not_count() -> None:
    good, poor = Errors(np.arange(2), np.eye(2)), Errors(np.arange(2, 5), np.full((3, 3), 1 / 3))
    known = seen_groups(Sight(lambda pixels: np.zeros((1, 5)), "eye", [good, poor]), (2, 3), 2)
    assert [places.tolist() for places in known] == [[0, 1]]
    user = seen_groups(Sight(lambda pixels: np.zeros((1, 5)), "eye", None), (2, 3), 2)
    assert [places.tolist() for places in user] == [[0, 1], [2, 3, 4]] and seen_groups(None, (2, 3), 2) == []


def test_an_audit_draws_again_what_the_eye_does_not_see(tmp_path: Path) -> None:
    def eye(pixels: Tensor) -> np.ndarray:
        bright = (pixels.mean((1, 2, 3)) > 0.5).double().numpy()
        return np.stack([bright, 1 - bright, np.full(len(bright), np.nan), np.full(len(bright), np.nan)], 1)

    plain = quick_audit(tmp_path / "pool", eye=eye, own_pictures=0)
    again = quick_audit(tmp_path / "pool", eye=eye, own_pictures=0, redraw=2)
    wrong = 24 - int(
        agrees(Asked(plain.outcomes["design"], (2, 2), 2).named, plain.outcomes["seen"], [np.arange(2)]).sum()
    )
    assert wrong and wrong <= again.settings["pictures_drawn"] <= 2 * wrong
    assert again.settings["redraw"] == 2 and plain.settings["redraw"] == 0
    assert [row.obeyed for row in again.rows] == [row.obeyed for row in plain.rows]
    assert [row.asked for row in again.rows] == pytest.approx([row.asked for row in plain.rows])
    repeated = quick_audit(tmp_path / "pool", eye=eye, own_pictures=0, redraw=2)
    assert repeated.settings["pictures_drawn"] == 0 and repr(repeated.rows) == repr(again.rows)


def test_nobody_draws_again_without_an_eye(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="redraw: wanted 0 without an eye"):
        quick_audit(tmp_path / "pool", redraw=2)
    with pytest.raises(ValueError, match="redraw: wanted at least 0, got -1"):
        quick_audit(tmp_path / "pool", redraw=-1)
    assert not list(tmp_path.glob("pool/*.png"))
