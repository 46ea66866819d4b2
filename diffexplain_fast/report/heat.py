"""The map of an audit: every class and concept in one table, shaded by the effect."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from diffexplain_fast.number_texts import effect_texts
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.audit_rows import PLACEBO, AuditRow

_MOST_TARGETS, _MOST_CONCEPTS = 24, 80
_SPAN = 3.0
"""Effect in logits that has the full shade."""


class HeatCell(NamedTuple):
    """One class and concept: the effect as text, its shade from 0 to 100, whose it is, and whether it is a finding."""

    text: str
    shade: int
    own: bool
    finding: bool


class HeatMap(NamedTuple):
    """A table of effects.

    Attributes:
        targets: names of classes.
        rows: of each concept its name and a cell for every class.
        left_out: number of classes that are not in the table.
        concepts_left_out: number of concepts that are not in the table.
    """

    targets: list[str]
    rows: list[tuple[str, list[HeatCell]]]
    left_out: int
    concepts_left_out: int


def heat_map(audit: Audit) -> HeatMap | None:
    """Return the map of an audit, with the classes and the concepts that have findings first.

    Other concepts follow by their largest effect. None for fewer than two classes.

    Args:
        audit: any; the rows of placebos are left out.
    """
    rows = [row for row in audit.rows if not row.concept.startswith(f"{PLACEBO}:")]
    points = dict.fromkeys(dict.fromkeys(row.target for row in rows), 0.0)
    for row in rows:
        if row.finding:
            points[row.target] = max(points[row.target], 1 + _points(row))
    names = sorted(points, key=lambda name: -points[name])
    concepts = _strongest_first(rows)
    if len(names) < 2 or not concepts:
        return None
    shown = names[:_MOST_TARGETS]
    largest = max((abs(row.effect) for row in rows if math.isfinite(row.effect)), default=0.0)
    known = {(row.target, row.concept): _cell(row, largest) for row in rows}
    none = HeatCell("-", 0, False, False)
    table = [(name, [known.get((target, name), none) for target in shown]) for name in concepts[:_MOST_CONCEPTS]]
    return HeatMap(shown, table, len(names) - len(shown), len(concepts) - len(table))


def _strongest_first(rows: Sequence[AuditRow]) -> list[str]:
    """Return the concepts, those with findings first, then those with the largest effects of either sign."""
    rank: dict[str, tuple[bool, float]] = {}
    for row in rows:
        size = 0.0 if math.isnan(row.effect) else abs(row.effect)
        found, largest = rank.get(row.concept, (False, 0.0))
        rank[row.concept] = (found or row.finding, max(largest, size))
    return sorted(rank, key=lambda concept: (not rank[concept][0], -rank[concept][1]))


def most_points_first(rows: Sequence[AuditRow]) -> list[AuditRow]:
    """Return findings by the points of answers that they move, the most first; those without points by their effect.

    What is a target's own comes last: that a class answers to its own object is right.
    """
    findings = (row for row in rows if row.finding)
    return sorted(findings, key=lambda row: (row.role == "core", -_points(row), -abs(row.effect)))


def _points(row: AuditRow) -> float:
    if row.answered_with is None or row.answered_without is None:
        return 0.0
    return abs(row.answered_with - row.answered_without)


def _cell(row: AuditRow, largest: float) -> HeatCell:
    if math.isnan(row.effect):
        return HeatCell("-", 0, False, False)
    shade = round(100 * min(max(row.effect, 0.0) / _SPAN, 1.0))
    return HeatCell(effect_texts(row.effect, largest, digits=1)[0], shade, row.declared_by is not None, row.finding)
