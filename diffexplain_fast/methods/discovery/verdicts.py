"""One verdict for every target, from its rows and interactions."""

from collections.abc import Sequence

import numpy as np

from diffexplain_fast.methods.discovery.own import own_concept
from diffexplain_fast.methods.discovery.rows import Trial
from diffexplain_fast.methods.discovery.sentences import verdict_sentence
from diffexplain_fast.results.audit_rows import AuditRow, FoundFeature, Interaction, Verdict
from diffexplain_fast.stats.intervals import wilson_interval
from diffexplain_fast.targets.outputs import SOFTMAX, UNITS

_ELICITED = 0.2
"""Share of answers below which a class is not elicited, by the upper end of its interval."""
_VERIFIED = 12
"""Pictures in which an eye must see a class's own object before it can be called not elicited."""
_BEST = 5
"""Concepts with the largest effects, whose pictures count beside those of the own object."""


def verdicts_of(
    trial: Trial, rows: Sequence[AuditRow], interactions: Sequence[Interaction], features: Sequence[FoundFeature] = ()
) -> dict[str, Verdict]:
    """Return the verdict of every target.

    Args:
        trial: the finished trial.
        rows: of all targets.
        interactions: of all targets.
        features: that explanations found.
    """
    found: dict[str, Verdict] = {}
    rows_of: dict[str, list[AuditRow]] = {target: [] for target in trial.readout.names}
    for row in rows:
        rows_of[row.target].append(row)
    for place, (target, own) in enumerate(rows_of.items()):
        pairs = [pair for pair in interactions if pair.target == target]
        found[target] = _verdict(trial, place, own, pairs, [one for one in features if one.target == target])
    return found


def _verdict(
    trial: Trial,
    place: int,
    rows: Sequence[AuditRow],
    pairs: Sequence[Interaction],
    features: Sequence[FoundFeature],
) -> Verdict:
    target = trial.readout.names[place]
    ordered = sorted(rows, key=lambda row: -abs(row.effect))
    core = [row for row in ordered if row.role == "core"]
    spurious = [row for row in ordered if row.role == "spurious"]
    suppressed = [row for row in ordered if row.role == "suppresses"]
    both = [pair for pair in pairs if pair.kind == "and" and pair.adjusted_p <= trial.level]
    either = [pair for pair in pairs if pair.kind == "or"]
    note, shown = "", [*spurious, *core]
    if both:
        kind, pairs = "conjunction", both
    elif either:
        kind, pairs = "either-or", either
    elif shown:
        kind, pairs = ("both" if core else "spurious") if spurious else "core", []
    else:
        kind, note = _without_findings(trial, place, ordered)
        if unnamed := [one for one in features if one.kind == "unnamed"]:
            kind, note = "unnamed", unnamed[0].sentence
        pairs = []
    concepts = [name for pair in pairs for name in (pair.concept_a, pair.concept_b)]
    concepts = list(dict.fromkeys([*concepts, *(row.concept for row in shown)]))
    of_two = [group for group, values in trial.concepts.groups.items() if len(values) == 2]
    unit = UNITS[trial.readout.classifier.output or SOFTMAX]
    answer = trial.readout.spoken(place)
    sentence = verdict_sentence(target, kind, shown, pairs, suppressed, note, of_two, unit, answer)
    return Verdict(kind, concepts, sentence, [row.concept for row in suppressed])


def _without_findings(trial: Trial, place: int, rows: Sequence[AuditRow]) -> tuple[str, str]:
    """Return the kind of a verdict without findings, and what is to be said."""
    answer, label = trial.readout.spoken(place), trial.readout.labels[place]
    own = own_concept(trial.concepts, label)
    if own is not None and next(row for row in rows if row.concept == trial.concepts.names[own]).role == "not drawable":
        return "not drawable", f"the eye does not see {answer} in the pictures that ask for it"
    answered, pictures, verified = _answered(trial, place, own, rows)
    if label is not None and trial.readout.answers and verified >= _VERIFIED:
        _, high = wilson_interval(answered, pictures)
        if high < _ELICITED:
            note = f"{answered} of {pictures} pictures with its object or its best concepts are answered {answer}"
            return "not elicited", note
    decided = all(row.role in ("none", "not drawable") for row in rows)
    left = "no concept has an effect above the minimal one" if decided else "the pictures do not suffice"
    if label is None or not trial.readout.answers:
        return "undecided", left
    return "undecided", f"{left}, and {answered} of {pictures} pictures are answered {answer}"


def _answered(trial: Trial, place: int, own: int | None, rows: Sequence[AuditRow]) -> tuple[int, int, int]:
    """Return answers with a target and pictures, of its object and its best concepts; and how many show its object."""
    asked, seen = trial.plan.asked.named, trial.data.seen
    best = {row.concept for row in sorted(rows, key=lambda row: -row.effect)[:_BEST]}
    chosen = asked[:, [i for i, name in enumerate(trial.concepts.names) if name in best]].any(1)
    hits = trial.data.hits[:, place]
    answered, pictures, verified = int(hits[chosen].sum()), int(chosen.sum()), 0
    if own is not None:
        mine = asked[:, own]
        shows = mine & ((seen[:, own] == 1) if seen is not None and not np.isnan(seen[:, own]).any() else mine)
        chosen = chosen | shows
        answered, pictures, verified = int(hits[chosen].sum()), int(chosen.sum()), int(shows.sum())
    elif place in trial.own:
        more = trial.own[place][1].hits[:, place]
        answered, pictures, verified = answered + int(more.sum()), pictures + len(more), len(more)
    return answered, pictures, verified
