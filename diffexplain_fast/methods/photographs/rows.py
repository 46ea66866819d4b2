"""From pictures with pasted values to rows, and how these agree with the rows of the generator."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.photographs.trial import Pasted
from diffexplain_fast.results.audit_rows import AuditRow, role_of
from diffexplain_fast.results.photographs import Agreement, PastedRow
from diffexplain_fast.stats.clustered import clustered_effects
from diffexplain_fast.stats.decisions import classify, findings, one_sided_tests, reported_interval
from diffexplain_fast.stats.effects import Effects
from diffexplain_fast.stats.generator import widened
from diffexplain_fast.stats.unit_scores import deviation

Declared = Callable[[str, str], str | None]
"""Target and concept to what says that the concept is the target's own; None where nothing does."""


def pasted_rows(
    trials: Sequence[Pasted], concepts: Concepts, targets: Sequence[str], declared: Declared, delta: float, level: float
) -> list[PastedRow]:
    """Return a row for every target and every concept that was pasted.

    A placebo, the picture's own value from another picture, changes nothing that has a name, so its mean effect is the
    error of pasting: the root mean square over the values of a group is added to the error of the group's effects.

    Args:
        trials: one for each group.
        concepts: what was pasted.
        targets: names of the targets.
        declared: says which concepts are a target's own.
        delta: minimal effect.
        level: rate of false findings, and error of the intervals.
    """
    if not trials:
        return []
    effects = _joined([_with_placebos(trial) for trial in trials])
    tests = one_sided_tests(effects, delta)
    found = findings(tests, level)
    low, high = reported_interval(effects, found, tests.tested, level)
    names = classify(effects.estimate, low, high, found, tests.tested, delta)
    p, adjusted_p = tests.towards(effects.estimate)
    placebos = np.concatenate([trial.placebos for trial in trials])
    groups = list(concepts.groups.items())
    cells = []
    for trial in trials:
        name, values = groups[trial.group]
        cells += [(f"{name}:{values[value]}", trial, i) for i, value in enumerate(trial.places)]
    rows = []
    for column, target in enumerate(targets):
        for place, (concept, trial, value) in enumerate(cells):
            at, own = (place, column), declared(target, concept)
            rows.append(
                PastedRow(
                    target=target,
                    concept=concept,
                    effect=float(effects.estimate[at]),
                    low=float(low[at]),
                    high=float(high[at]),
                    p=float(p[at]),
                    adjusted_p=float(adjusted_p[at]),
                    finding=bool(found[at]),
                    role=role_of(str(names[at]), int(found[at]), own),
                    declared_by=own,
                    placebo=None if np.isnan(placebos[at]) else float(placebos[at]),
                    pictures=len(trial.values),
                    donors=len(np.unique(trial.donors[:, value])),
                )
            )
    return rows


def _with_placebos(trial: Pasted) -> Effects:
    effects = clustered_effects(trial.values, trial.donors)
    known = np.isfinite(trial.placebos[:, 0])
    if not known.any():
        return effects
    size = np.sqrt((trial.placebos[known] ** 2).mean(0, keepdims=True))
    return widened(effects, size, float(known.sum()))


def _joined(parts: Sequence[Effects]) -> Effects:
    """Return the cells of several groups as one family."""
    names = ("estimate", "error", "freedom", "means", "medians", "middle", "pictures")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return replace(parts[0], levels=tuple(level for part in parts for level in part.levels), **joined)


def agreement(pasted: Sequence[PastedRow], drawn: Sequence[AuditRow], own: Mapping[str, float]) -> Agreement:
    """Return how effects of pasting agree with those of the generator.

    The generator's effects with and without a target's own object are averaged with the shares that the pictures have,
    because what is pasted is pasted into the pictures as they are.

    Args:
        pasted: rows of own pictures.
        drawn: rows of the generator.
        own: target to the share of the pictures that show its own object; a target that is left out has no such share,
            and its rows are compared as they are.
    """
    other = {(row.target, row.concept): as_in(row, own) for row in drawn if row.declared_by != "label"}
    pairs = [(row, other[row.target, row.concept]) for row in pasted if (row.target, row.concept) in other]
    pairs = [(ours, theirs) for ours, theirs in pairs if np.isfinite([ours.effect, theirs.effect]).all()]
    if len(pairs) < 3:
        return Agreement(len(pairs), None, None, None)
    ours, theirs = (np.array([pair[side].effect for pair in pairs]) for side in (0, 1))
    overlap = float(np.mean([one.low <= two.high and two.low <= one.high for one, two in pairs]))
    if not deviation(np.stack([theirs, ours], 1)).all():
        return Agreement(len(pairs), None, None, overlap)
    line = importlib.import_module("scipy.stats").linregress(theirs, ours)
    return Agreement(len(pairs), float(line.rvalue), float(line.slope), overlap)


def as_in(row: AuditRow, own: Mapping[str, float]) -> AuditRow:
    """Return a row whose effect is that of pictures with a share of the target's own object, its interval as wide."""
    if row.target not in own or row.other_effect is None:
        return row
    effect = row.other_effect  # too few pictures of the own object for a number of their own
    if row.own_effect is not None:
        effect = own[row.target] * row.own_effect + (1 - own[row.target]) * row.other_effect
    moved = effect - row.effect
    return replace(row, effect=effect, low=row.low + moved, high=row.high + moved)
