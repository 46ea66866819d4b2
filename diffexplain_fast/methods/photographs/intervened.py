"""Rows and sentences of interventions: effects over clusters of pictures, and whether placebos do the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import filterfalse

import numpy as np

from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.photographs.interventions import Paired, placebo_names
from diffexplain_fast.methods.photographs.sentences import intervention_clause, joined_sentence, raises, with_shortcut
from diffexplain_fast.results.audit_rows import INTERVENTION, PLACEBO, AuditRow, Verdict, role_of
from diffexplain_fast.stats.clustered import cluster_means, clustered_change, does_the_same
from diffexplain_fast.stats.decisions import Control, classify, findings, one_sided_tests, reported_interval


@dataclass(frozen=True)
class Intervened:
    """What interventions do.

    Attributes:
        rows: of every target and intervention, then of every target and placebo; those of placebos are no findings.
        sentences: target to what the strongest interventions that raise and that lower it do, and whether placebos do
            the same; targets without a finding are left out.
        flagged: placebo to the share of the targets whose effect would be a finding.
    """

    rows: list[AuditRow]
    sentences: dict[str, str]
    flagged: dict[str, float]


def intervened(
    paired: Sequence[Paired],
    clusters: np.ndarray,
    readout: Readout,
    delta: float,
    level: float,
    control: Control = "fdr",
    weights: np.ndarray | None = None,
) -> Intervened:
    """Return what interventions do to every target.

    Args:
        paired: each intervention with its placebos.
        clusters: of every picture the number of its cluster.
        readout: the targets.
        delta: minimal effect.
        level: rate of false findings, and error of the intervals.
        control: of false findings; see ``one_sided_tests``.
        weights: float [pictures], how much each counts, for a user's distribution; None for equally.
    """
    placebos = {name for one in paired for name in placebo_names(one.name)}
    real, null = ([one for one in paired if (one.name in placebos) == kind] for kind in (False, True))
    rule = delta, level, control
    rows, _ = _table(real, clusters, readout, rule, INTERVENTION, weights)
    blind, found = _table(null, clusters, readout, rule, PLACEBO, weights)
    changes = {one.name: one.change for one in paired}
    sentences = {}
    for column, target in enumerate(readout.names):
        mine = sorted((row for row in rows if row.target == target and row.finding), key=lambda row: -abs(row.effect))
        clauses = []
        for row in [next(filter(raises, mine), None), next(filterfalse(raises, mine), None)]:
            if row is not None:
                moved = {other: (changes[row.value] - changes[other])[:, column] for other in placebo_names(row.value)}
                same = [other for other in moved if does_the_same(moved[other], clusters, row.effect, level, weights)]
                by = {one.value: one.effect for one in blind if one.target == target and one.value in same}
                clauses.append(intervention_clause(row, by))
        if clauses:
            sentences[target] = f"{target}: {' '.join(clauses)}"
    flagged = {one.name: float((found[i] != 0).mean()) for i, one in enumerate(null)}
    return Intervened([*rows, *blind], sentences, flagged)


def _table(
    paired: Sequence[Paired],
    clusters: np.ndarray,
    readout: Readout,
    rule: tuple[float, float, Control],
    kind: str,
    weights: np.ndarray | None,
) -> tuple[list[AuditRow], np.ndarray]:
    delta, level, control = rule
    effects = cluster_means([one.change for one in paired], clusters, weights)
    tests = one_sided_tests(effects, delta, control)
    found = findings(tests, level)
    low, high = reported_interval(effects, found, tests.tested, level)
    names = classify(effects.estimate, low, high, found, tests.tested, delta)
    p, adjusted_p = tests.towards(effects.estimate)
    rows = []
    for column, target in enumerate(readout.names):
        answers = readout.labels[column] is not None and readout.answers
        for place, one in enumerate(paired):
            at, real = (place, column), kind == INTERVENTION
            hits = one.with_it[:, column], one.without[:, column]
            points = clustered_change(*hits, clusters, 1 - level, weights) if answers else (None, None)
            rows.append(
                AuditRow(
                    target=target,
                    concept=f"{kind}:{one.name}",
                    effect=float(effects.estimate[at]),
                    low=float(low[at]),
                    high=float(high[at]),
                    p=float(p[at]),
                    adjusted_p=float(adjusted_p[at]),
                    finding=bool(found[at]) and real,
                    role="small" if found[at] and not real else role_of(str(names[at]), int(found[at]), None),
                    asked=float(effects.estimate[at]),
                    obeyed=one.changed,
                    declared_by=None,
                    answered_with=float(np.average(hits[0], weights=weights)) if answers else None,
                    answered_without=float(np.average(hits[1], weights=weights)) if answers else None,
                    accuracy_with=None,
                    accuracy_without=None,
                    tipping_point=None,
                    pictures=len(one.change),
                    points_low=points[0],
                    points_high=points[1],
                )
            )
    return rows, found


def with_sentences(verdicts: Mapping[str, Verdict], found: Intervened) -> dict[str, Verdict]:
    """Return verdicts that name interventions too: those that raise a target, and those that suppress it.

    An intervention that raises a target is a shortcut: a verdict "core" becomes "both", and one without findings
    becomes "spurious".

    Args:
        verdicts: target to its verdict, as far as there is one; where there is none and nothing raises the target, the
            verdict is "undecided".
        found: what interventions do.
    """
    changed = dict(verdicts)
    for target, sentence in found.sentences.items():
        rows = [row for row in found.rows if row.target == target and row.finding]
        rows.sort(key=lambda row: -abs(row.effect))
        raising, lowering = ([row.concept for row in rows if raises(row) == up] for up in (True, False))
        known = verdicts.get(target) or Verdict("undecided", [], "")
        kind = with_shortcut(known.kind) if raising else known.kind
        changed[target] = replace(
            known,
            kind=kind,
            concepts=list(dict.fromkeys([*known.concepts, *raising])),
            suppressed_by=list(dict.fromkeys([*known.suppressed_by, *lowering])),
            sentence=joined_sentence(target, known, kind, sentence),
        )
    return changed
