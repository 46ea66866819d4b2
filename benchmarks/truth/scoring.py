"""From rows to the figures of each method; every share has its denominator and the lower end of its Wilson interval."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.discovery.figures import compared
from benchmarks.truth.answers import DIGITS, Answer
from benchmarks.truth.cases import MINIMAL, Case, drawn_line, is_right, kind_of
from benchmarks.truth.cells import CLEAN, KINDS, REINITIALISED, RESCALED, SHIFTED, SHIPPED, Planned
from benchmarks.truth.described import predictiveness, scenes_of, true_scores
from benchmarks.truth.rows import TRUTH, Row, answers_of
from diffexplain_fast.stats.intervals import mean_interval, wilson_interval

TRUE = "true description"
"""Name of what every method's predictiveness is compared with."""


def figures(planned: Sequence[Planned], rows: Sequence[Row]) -> dict[str, Row]:
    """Return the figures of every method, and the predictiveness of the true descriptions.

    Args:
        planned: the classifiers that count.
        rows: of truths and methods.
    """
    places = {one.name: one for one in planned}
    mine = [row for row in rows if row["classifier"] in places]
    known = {row["classifier"]: row for row in mine if row["method"] == TRUTH}
    found: dict[str, Row] = {}
    for name in dict.fromkeys(row["method"] for row in mine if row["method"] != TRUTH):
        cases = [
            Case(places[row["classifier"]], label, answer, known[row["classifier"]], 0.0)
            for row in mine
            if row["method"] == name and row["classifier"] in known
            for label, answer in answers_of(row).items()
        ]
        line = drawn_line(cases)
        cases = [case._replace(line=line) for case in cases]
        cost = [row for row in mine if row["method"] == name]
        found[name] = of_method(cases) | {
            "line": line if any(case.answer.named is None for case in cases) else None,
            "CPU seconds": float(np.mean([row["CPU seconds"] for row in cost])),
        }
    learnt = [
        (places[name].cell(label), right) for name, row in known.items() for label, right in row["planted"].items()
    ]
    found[TRUE] = {
        "predictiveness": _by_kind(_true_predictiveness(places, known), _mean),
        "planted cells learnt": _by_kind([(cell.kind, right) for cell, right in learnt if cell], _share),
    }
    return {name: rounded(part) for name, part in found.items()}


def rounded(found: Any) -> Any:
    """Return figures with four digits after the point, and None in place of what is not a number."""
    if isinstance(found, Mapping):
        return {key: rounded(value) for key, value in found.items()}
    if isinstance(found, float):
        return round(found, DIGITS) if np.isfinite(found) else None
    return found


def of_method(cases: Sequence[Case]) -> Row:
    """Return the figures of a method on the classes on which all methods are compared, and on all that it answered."""
    compared_on = [case for case in cases if case.label in case.planned.labels and case.planned.kind != SHIFTED]
    more = [case for case in cases if case.planned.kind != SHIFTED]
    return {
        "cells": over_cells(compared_on),
        "cells of all classes": over_cells(more) if len(more) > len(compared_on) else None,
        "cells by kind": {
            kind: over_cells([case for case in compared_on if kind_of(case) == kind])
            for kind in dict.fromkeys(map(kind_of, compared_on))
        },
        "false alarms": false_alarms(compared_on),
        "pairs": pairs(compared_on),
        "verdicts": _by_kind(_verdicts(compared_on), _share),
        "first word": _by_kind(_first_words(compared_on), _share),
        "predictiveness": _by_kind(_predictiveness(compared_on), _mean),
        "shifted": shifted(cases),
    }


def over_cells(cases: Sequence[Case]) -> Row | None:
    """Return the figures of ``benchmarks.discovery`` over all concepts but the own objects; None without cells."""
    truth: dict[tuple[str, str], float] = {}
    role: dict[tuple[str, str], str] = {}
    spread: dict[tuple[str, str], float] = {}
    for case in cases:
        target, names = f"{case.planned.name}/{case.label}", case.known["concepts"]
        effects, named, halves = (case.known[key][case.label] for key in ("effects", "roles", "spreads"))
        for name, effect, one, half in zip(names, effects, named, halves, strict=True):
            if effect is not None:
                truth[target, name], role[target, name], spread[target, name] = effect, one, half
    if len(truth) < 2:
        return None
    with np.errstate(all="ignore"):
        found: Row = compared([cell for case in cases for cell in case.cells()], truth, role, MINIMAL, spread)
    if any(case.answer.low is None for case in cases):  # neither logits nor intervals
        for key in ("mean |effect - truth|", "slope", "correlation", "median half-width", "undecided"):
            del found[key]
        found = {key: value for key, value in found.items() if not key.startswith("covered")}
    bounded: Row = with_bounds(found)
    return bounded


def with_bounds(found: Any) -> Any:
    """Return figures in which every share of some hits has the lower end of its Wilson interval beside it."""
    if not isinstance(found, Mapping):
        return found
    if found.keys() == {"share", "of"}:
        return _share_of(round(found["share"] * found["of"]), found["of"]) if found["of"] else dict(found)
    return {key: with_bounds(value) for key, value in found.items()}


def false_alarms(cases: Sequence[Case]) -> Row | None:
    """Return the share of cells without an effect that are named, on classifiers that rely on nothing but objects."""
    hits = n = 0
    for case in cases:
        if case.planned.kind in (CLEAN, REINITIALISED) or (case.planned.kind == SHIPPED and not case.planned.cells):
            effects = dict(zip(case.known["concepts"], case.known["effects"][case.label], strict=True))
            small = {name for name, effect in effects.items() if effect is not None and abs(effect) <= MINIMAL}
            none = small - {case.own}
            hits, n = hits + len(none.intersection(case.named)), n + len(none)
    return {"share": hits / n, "of": n, "at most": wilson_interval(hits, n)[1]} if n else None


def pairs(cases: Sequence[Case]) -> Row:
    """Return how often both values of a pair are found, and how often the pair is named with its kind."""
    found = {}
    for kind, word in (("all_of", "and"), ("any_of", "or")):
        some = [case for case in cases if case.kind == kind and case.said and case.learnt]
        both = [set(case.cue) <= set(case.named) | {n for p in case.answer.pairs for n in p[:2]} for case in some]
        kinds = [any(set(p[:2]) == set(case.cue) and p.kind == word for p in case.answer.pairs) for case in some]
        found[kind] = {"both found": _share(both), "kind": _share(kinds)}
    return found


def shifted(cases: Sequence[Case]) -> Row | None:
    """Return what a function that is added to all logits, and so changes no answer, changes in a method's answers."""
    twins = {(case.planned.name, case.label): case for case in cases}
    changes, same = [], []
    for case in cases:
        twin = twins.get((str(case.planned.twin), case.label))
        if case.planned.kind == SHIFTED and twin is not None:
            changes.append(float(np.abs(np.subtract(case.answer.scores, twin.answer.scores)).max()))
            same.append(set(case.named) == set(twin.named))
    return {"largest change of a score": max(changes), "same concepts named": _share(same)} if changes else None


def _verdicts(cases: Iterable[Case]) -> list[tuple[str, float]]:
    judged = [(kind_of(case), is_right(case)) for case in cases]
    return [(kind, float(right)) for kind, right in judged if right is not None]


def _first_words(cases: Iterable[Case]) -> list[tuple[str, float]]:
    judged = [case for case in cases if case.said and case.learnt and (case.cue or kind_of(case) == CLEAN)]
    right = [(case, case.cue or [case.own]) for case in judged]
    return [(kind_of(case), float(case.first in wanted)) for case, wanted in right]


def _predictiveness(cases: Iterable[Case]) -> list[tuple[str, float]]:
    found = []
    for case in cases:
        values = case.known["values"].get(case.label)
        if values is not None:
            said = case.answer.description(case.known["concepts"], case.line)
            scores = [said.score(scene) for scene in scenes_of(case.label, case.planned.cell(case.label))]
            found.append((kind_of(case), predictiveness(scores, values)))
    return found


def _true_predictiveness(places: Mapping[str, Planned], known: Mapping[str, Row]) -> list[tuple[str, float]]:
    found = []
    for name, row in known.items():
        for label, values in row["values"].items():
            case = Case(places[name], label, Answer([]), row, 0.0)
            if places[name].kind != SHIFTED:
                found.append((kind_of(case), predictiveness(true_scores(places[name], label), values)))
    return found


def _by_kind(found: Sequence[tuple[str, float]], figure: Callable[[Sequence[float]], Row]) -> Row:
    """Return a figure of all values and of those of every kind."""
    kinds = [kind for kind in (SHIPPED, *KINDS, CLEAN, REINITIALISED, RESCALED) if kind in {one for one, _ in found}]
    return {"all": figure([value for _, value in found])} | {
        kind: figure([value for one, value in found if one == kind]) for kind in kinds
    }


def _share(hits: Sequence[float]) -> Row:
    return _share_of(int(sum(hits)), len(hits)) if hits else {"share": None, "of": 0}


def _share_of(hits: int, n: int) -> Row:
    return {"share": hits / n, "of": n, "at least": wilson_interval(hits, n)[0]}


def _mean(values: Sequence[float]) -> Row:
    """Return the mean over classes and the lower end of its Student's interval."""
    if not values:
        return {"mean": None, "of": 0}
    ends = mean_interval(values)
    return {"mean": float(np.mean(values)), "of": len(values), "at least": None if ends is None else ends[0]}
