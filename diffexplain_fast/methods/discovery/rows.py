"""From the cells of a trial to the rows of an audit."""

from dataclasses import dataclass

import numpy as np

from diffexplain_fast.evidence.calibration import Errors
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.discovery.obedience import Obedience, obedience
from diffexplain_fast.methods.discovery.own import declarations, own_concept
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.methods.discovery.splits import Split, parts_of, split
from diffexplain_fast.methods.discovery.trial import Measured
from diffexplain_fast.results.audit_rows import AuditRow, role_of
from diffexplain_fast.stats.cells import Judged
from diffexplain_fast.stats.generator import tipping_point


@dataclass(frozen=True)
class Trial:
    """A finished trial: its captions, what was said of the pictures, and its cells.

    Attributes:
        concepts: what was asked for.
        readout: the classifier and its targets.
        plan: the captions of the pictures that were used.
        data: what was said of them.
        judged: the cells.
        asking: effects of asking, [concepts, targets]; the cells have those of showing where words are disobeyed.
        own: place of a target to the plan and the data of pictures that all ask for the target's own object.
        errors: of the eye in every group; None where they are not known.
        delta: minimal effect.
        level: error of the intervals.
        first: what was said of the pictures as they were drawn first, where some were drawn again.
    """

    concepts: Concepts
    readout: Readout
    plan: Plan
    data: Measured
    judged: Judged
    asking: np.ndarray
    own: dict[int, tuple[Plan, Measured]]
    errors: list[Errors] | None
    delta: float
    level: float
    first: Measured | None = None


@dataclass(frozen=True)
class _Common:
    """What the rows of all targets share: effects on values and answers, tipping points, obedience, intervals."""

    everything: list[Split]
    tipping: np.ndarray
    asked: np.ndarray
    eye: list[Obedience]
    low: np.ndarray
    high: np.ndarray


def rows_of(trial: Trial, reported: Judged | None = None) -> list[AuditRow]:
    """Return a row for every target and concept.

    Args:
        trial: the finished trial.
        reported: its cells with the intervals of the report; None for those of the trial itself.
    """
    both = np.concatenate([trial.data.values, trial.data.hits], 1).astype(np.float64)
    judged, asked = trial.judged, trial.plan.asked.named
    common = _Common(
        everything=parts_of(trial.plan.asked, both, trial.level),
        tipping=tipping_point(judged.low, judged.high, judged.found, trial.delta),
        asked=asked,
        eye=obedience(asked, (trial.first or trial.data).seen, trial.errors),
        low=(reported or judged).low,
        high=(reported or judged).high,
    )
    return [row for target in range(len(trial.readout.names)) for row in _rows(trial, target, common)]


def _rows(trial: Trial, target: int, common: _Common) -> list[AuditRow]:
    own = own_concept(trial.concepts, trial.readout.labels[target])
    others, own_part = common.everything[target], None
    values, hits = trial.data.values[:, target], trial.data.hits[:, target]
    if own is not None:
        asked = common.asked[:, own]
        others = split(trial.plan.asked, ~asked, values, hits, trial.level) or others
        own_part = split(trial.plan.asked, asked, values, hits, trial.level)
    elif target in trial.own:
        plan, more = trial.own[target]
        every = np.ones(len(plan.captions), dtype=bool)
        own_part = split(plan.asked, every, more.values[:, target], more.hits[:, target], trial.level)
    return [
        _row(trial, (place, target), declared, common.everything[target] if place == own else others, own_part, common)
        for place, declared in enumerate(declarations(trial.concepts, trial.readout.labels[target]))
    ]


def _row(
    trial: Trial, at: tuple[int, int], declared: str | None, others: Split, own: Split | None, common: _Common
) -> AuditRow:
    place, target = at
    judged, eye = trial.judged, common.eye[place]
    drawable = eye.drawable and not np.isinf(judged.low[at]) and not np.isinf(judged.high[at])
    answers = trial.readout.labels[target] is not None and trial.readout.answers
    return AuditRow(
        target=trial.readout.names[target],
        concept=trial.concepts.names[place],
        effect=float(judged.estimate[at]),
        low=float(common.low[at]),
        high=float(common.high[at]),
        p=float(judged.p[at]),
        adjusted_p=float(judged.adjusted[at]),
        finding=bool(judged.found[at]),
        role=role_of(str(judged.names[at]) if drawable else "not drawable", int(judged.found[at]), declared),
        asked=float(trial.asking[at]),
        obeyed=eye.share,
        declared_by=declared,
        answered_with=_number(others.share[place]) if answers else None,
        answered_without=_number(others.median_share[place]) if answers else None,
        accuracy_with=_number(own.share[place]) if answers and own else None,
        accuracy_without=_number(own.median_share[place]) if answers and own else None,
        tipping_point=_number(common.tipping[at]),
        pictures=int(common.asked[:, place].sum()),
        points_low=_number(others.points_low[place]) if answers else None,
        points_high=_number(others.points_high[place]) if answers else None,
        own_effect=_number(own.effect[place]) if own else None,
        own_low=_number(own.low[place]) if own else None,
        own_high=_number(own.high[place]) if own else None,
        other_effect=_number(others.effect[place]),
        other_low=_number(others.low[place]),
        other_high=_number(others.high[place]),
        words_p=None if judged.words_p is None else _number(judged.words_p[at]),
        words_disagree=judged.disagree is not None and bool(judged.disagree[at]),
    )


def _number(value: float) -> float | None:
    """Return a number, or None without an estimate."""
    return None if np.isnan(value) else float(value)
