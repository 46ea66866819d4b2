"""What own pictures and interventions add to the sentences of verdicts."""

from collections.abc import Mapping
from dataclasses import replace

from diffexplain_fast.results.audit_rows import AuditRow, Verdict
from diffexplain_fast.results.photographs import Photographs

_WITHOUT_FINDINGS = ("undecided", "not elicited", "not drawable", "unnamed")
_WITH_SHORTCUT = {"core": "both"} | dict.fromkeys(_WITHOUT_FINDINGS, "spurious")


def with_unexplained(verdicts: Mapping[str, Verdict], found: Photographs) -> dict[str, Verdict]:
    """Return verdicts whose sentences say what no concept explains in own pictures.

    Args:
        verdicts: target to its verdict.
        found: what own pictures say.
    """
    added = "In own pictures its answers are not explained by any concept."
    hidden = set(found.unexplained)
    return {
        target: replace(verdict, sentence=f"{verdict.sentence} {added}") if target in hidden else verdict
        for target, verdict in verdicts.items()
    }


def with_shortcut(kind: str) -> str:
    """Return the kind of a verdict after a shortcut is found too."""
    return _WITH_SHORTCUT.get(kind, kind)


def raises(row: AuditRow) -> bool:
    """Return whether what a row is about raises the target."""
    return row.effect > 0


def intervention_clause(row: AuditRow, same: Mapping[str, float]) -> str:
    """Return what an intervention does, and to the answers of a class.

    "Lowers it by" is told without a minus sign, and so are its interval's ends; so are "points fewer".

    Args:
        row: of the intervention.
        same: placebos that do nearly the same, to their effects.
    """
    if raises(row):
        sign, form, verb, ends = 1, "+.2f", "raises", (row.low, row.high)
    else:
        sign, form, verb, ends = -1, ".2f", "lowers", (-row.high, -row.low)
    change = f"{verb} it by {sign * row.effect:{form}} [{ends[0]:.2f}, {ends[1]:.2f}]"
    told = [f"{other} does the same ({sign * effect:{form}})" for other, effect in same.items()]
    null = ", and ".join(told) if told else "neither its mirror image nor a blank one does the same"
    return f"{row.value} {change} in {row.pictures} pictures; {null}{_answers(row)}."


def _answers(row: AuditRow) -> str:
    """Return how many of the pictures are answered with the target without an intervention and with it, or nothing."""
    known = row.answered_with, row.answered_without, row.points_low, row.points_high
    if None in known:
        return ""
    after, before, low, high = (100 * share for share in known if share is not None)
    more, ends = ("more", (low, high)) if after >= before else ("fewer", (-high, -low))
    points = f"{abs(after - before):.0f} points {more} [{ends[0]:.0f}, {ends[1]:.0f}]"
    return f"; {before:.0f} % are answered {row.target} without it and {after:.0f} % with it, {points}"


def joined_sentence(target: str, known: Verdict, kind: str, clauses: str) -> str:
    """Return a verdict's sentence and what interventions do, so that neither denies what the other says.

    Args:
        target: of the verdict.
        known: the verdict without interventions; its sentence may be empty.
        kind: of the verdict with them.
        clauses: what interventions do to the target, with its name.
    """
    if not known.sentence:
        return clauses
    if kind == known.kind and kind not in _WITHOUT_FINDINGS:
        return f"{known.sentence} {clauses}"
    before = known.sentence.removeprefix(f"{target}: ")
    return f"{clauses} Without interventions {before[:1].lower()}{before[1:]}"
