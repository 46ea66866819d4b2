"""What own pictures and interventions add to the sentences of verdicts."""

from collections.abc import Mapping
from dataclasses import replace

from diffexplain_fast.number_texts import effect_text, effect_texts, shares_and_points
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

    "Lowers it by" is told without a minus sign, and so are its interval's ends.

    Args:
        row: of the intervention.
        same: placebos that do nearly the same, to their effects.
    """
    if raises(row):
        sign, signs, verb, ends = 1, "+", "raises", (row.low, row.high)
    else:
        sign, signs, verb, ends = -1, "", "lowers", (-row.high, -row.low)
    size, (low, high) = sign * row.effect, effect_texts(sign * row.effect, *ends, signs="")[1:]
    change = f"{verb} it by {effect_texts(size, *ends, signs=signs)[0]} [{low}, {high}]"
    told = [f"{other} does the same ({effect_text(sign * effect, signs=signs)})" for other, effect in same.items()]
    null = ", and ".join(told) if told else "neither its mirror image nor a blank one does the same"
    return f"{row.value} {change} in {row.pictures} pictures; {null}{_answers(row)}."


def _answers(row: AuditRow) -> str:
    """Return how many of the pictures are answered with the target without an intervention and with it, or nothing."""
    after, before, low, high = row.answered_with, row.answered_without, row.points_low, row.points_high
    if after is None or before is None or low is None or high is None:
        return ""
    with_it, without, points, ends = shares_and_points(after, before, low, high)
    return f"; {without} are answered {row.target} without it and {with_it} with it ({points} {ends})"


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
