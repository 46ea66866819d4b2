"""One class and what a method said of it: which concepts the method names, and whether its verdict is right."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.truth.answers import Answer
from benchmarks.truth.cells import CLEAN, REINITIALISED, SHIPPED, Planned
from diffexplain_fast.methods.discovery.options import AuditOptions
from diffexplain_fast.methods.discovery.own import LABEL
from diffexplain_fast.results.audit_rows import AuditRow

MINIMAL = AuditOptions().minimal_effect
"""Effect in logits up to which naming a concept is a false alarm."""
_SHORTCUT, _NOT_SAID = {"spurious", "both"}, {"not elicited", "unnamed"}
_EXPECTED = {
    **dict.fromkeys(("single 0.5", "single 0.9", "reversed", SHIPPED), _SHORTCUT),
    "all_of": {"conjunction"},
    "any_of": {"either-or"},
    CLEAN: {"core"},
    REINITIALISED: {"undecided", "not elicited"},
}
"""Kind of a cell to the verdicts that are right; what the generator has no word for is not elicited or unnamed."""


class Case(NamedTuple):
    """What a method said of one class, beside what is known.

    Attributes:
        planned: the classifier.
        label: the class.
        answer: of the method.
        known: the row of the truth.
        line: score from which a method that draws no line itself names a concept.
    """

    planned: Planned
    label: str
    answer: Answer
    known: dict[str, Any]
    line: float

    @property
    def kind(self) -> str:
        """The kind of the planted cell, or else of the classifier."""
        cell = self.planned.cell(self.label)
        return self.planned.kind if cell is None else cell.kind

    @property
    def cue(self) -> list[str]:
        """The concepts of the planted cue, none where nothing is planted."""
        cell = self.planned.cell(self.label)
        return [] if cell is None else [":".join(value) for value in cell.cue.values]

    @property
    def said(self) -> bool:
        """Whether the generator has a word for the whole cue."""
        return set(self.cue) <= set(self.known["concepts"])

    @property
    def learnt(self) -> bool:
        """Whether the classifier relies on its cue as planned, by its measured truth; True where nothing is planted."""
        return bool(self.known["planted"].get(self.label, True))

    @property
    def clean(self) -> bool:
        """Whether nothing but the own object has an effect beyond ``MINIMAL``, by the measured truth."""
        effects = zip(self.known["concepts"], self.known["effects"][self.label], strict=True)
        return all(effect is None or abs(effect) <= MINIMAL for name, effect in effects if name != self.own)

    @property
    def own(self) -> str:
        """The concept of the class's own object."""
        return f"object:{self.label}"

    @property
    def named(self) -> list[str]:
        """The concepts that the method names, the strongest first."""
        return self.answer.names(self.known["concepts"], self.line)

    @property
    def verdict(self) -> str:
        """The method's verdict; of a method without verdicts the one that follows from what it names."""
        if self.answer.verdict is not None:
            return self.answer.verdict
        own, others = self.own in self.named, any(name != self.own for name in self.named)
        return ("both" if own else "spurious") if others else "core" if own else "undecided"

    @property
    def first(self) -> str | None:
        """The concept with the highest score; of a class with a cue its own object is left out."""
        scored = dict(zip(self.known["concepts"], self.answer.scores, strict=True))
        names = [name for name in scored if not (self.cue and name == self.own)]
        best = max(names, key=lambda name: scored[name])
        return best if scored[best] > 0 else None

    def cells(self) -> list[AuditRow]:
        """Return a row for every concept, as an audit has them."""
        names, answer = self.known["concepts"], self.answer
        chosen, none = set(self.named), [None] * len(names)
        low, high = answer.low or none, answer.high or none
        return [
            _cell(self, name, score, (one, two), name in chosen)
            for name, score, one, two in zip(names, answer.scores, low, high, strict=True)
        ]


def _cell(case: Case, name: str, score: float, ends: tuple[Any, Any], found: bool) -> AuditRow:
    return AuditRow(
        target=f"{case.planned.name}/{case.label}",
        concept=name,
        effect=score,
        low=ends[0],
        high=ends[1],
        p=1.0,
        adjusted_p=1.0,
        finding=found,
        role="undecided" if name in case.answer.undecided else "none",
        asked=score,
        obeyed=None,
        declared_by=LABEL if name == case.own else None,
        answered_with=None,
        answered_without=None,
        accuracy_with=None,
        accuracy_without=None,
        tipping_point=None,
        pictures=0,
    )


def kind_of(case: Case) -> str:
    """Return the kind of a class; the shipped classifier without a cue is a clean one."""
    return CLEAN if case.kind == SHIPPED and not case.cue else case.kind


def is_right(case: Case) -> bool | None:
    """Return whether a verdict is right.

    None where nothing is expected of the class: its cue was not learnt, or it was to be clean and is not. A network
    learns a little of what is not planted, and an audit that finds it is right.
    """
    if not case.learnt or (kind_of(case) == CLEAN and not case.clean):
        return None
    expected = _NOT_SAID if case.cue and not case.said else _EXPECTED.get(kind_of(case))
    return None if expected is None else case.verdict in expected


def drawn_line(cases: Sequence[Case]) -> float:
    """Return the score above which a method that draws no line is best on the shipped classifiers, by F1.

    That favours the method: its line is chosen with the truth of some classifiers before its eyes. Without shipped
    classifiers the line is 0.
    """
    scores, true = [], []
    for case in cases:
        if case.planned.kind == SHIPPED and case.label in case.planned.labels:
            for name, score, effect in zip(
                case.known["concepts"], case.answer.scores, case.known["effects"][case.label], strict=True
            ):
                if effect is not None and name != case.own:
                    scores.append(score)
                    true.append(effect > MINIMAL)
    best, line = 0.0, 0.0
    for edge in sorted(set(scores)):
        chosen = np.array(scores) > edge
        f1 = 2 * float((chosen & np.array(true)).sum()) / max(1, int(chosen.sum()) + sum(true))
        best, line = (f1, edge) if f1 > best else (best, line)
    return line
