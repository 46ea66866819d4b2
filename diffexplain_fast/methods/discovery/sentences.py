"""Plain sentences from the rows of an audit; every number in a sentence is a number of a row."""

from collections.abc import Collection, Sequence

from diffexplain_fast.number_texts import interval_texts, shares_and_points
from diffexplain_fast.results.audit_rows import AuditRow, Interaction
from diffexplain_fast.targets.outputs import SOFTMAX, UNITS

_MOST = 3
"""Concepts that a sentence names with their numbers."""


def effect_clause(row: AuditRow, of_two: bool = False, unit: str = UNITS[SOFTMAX], answer: str | None = None) -> str:
    """Return what one concept does, such as "answers fish in 64 % of desert pictures and in 2 % of others without a
    fish (+62 points [55, 69])"; for a target without answers the effect in its own unit.

    Where the interval of the points holds 0, or lies on the other side of it than the effect, they are no evidence, and
    the effect that was tested stands beside them. So does an effect whose interval holds 0 although it is a finding.

    Args:
        row: of the audit.
        of_two: whether the group has one other value only, so that the median is over both.
        unit: of the effect of a class, such as "log-odds".
        answer: the class that pictures are answered with, such as "fish" of ``ClassProbability(fish)``; None where the
            target's name is that of the class.
    """
    pictures = _pictures(row)
    if None in (row.answered_with, row.answered_without, row.points_low, row.points_high):
        change, interval = interval_texts(row.effect, row.low, row.high, signs="")
        beside = _wider_than_the_test(row)
        return f"gives {row.target} {change} {interval} in {pictures}, against the median of their group{beside}"
    assert row.answered_with is not None and row.answered_without is not None
    assert row.points_low is not None and row.points_high is not None
    answer = row.target if answer is None else answer
    others = f"those with either {row.concept.partition(':')[0]}" if of_two else "others"
    others += "" if row.declared_by == "label" else f" without a {answer}"
    shares = (row.answered_with, row.answered_without)
    one, two, points, interval = shares_and_points(*shares, row.points_low, row.points_high)
    change, ends = interval_texts(row.effect, row.low, row.high, signs="")
    beside = _wider_than_the_test(row)
    needed = beside or row.points_low <= 0 <= row.points_high or _against(row)
    against = "against these points, the effect that was tested is " if _against(row) else ""
    effect = f"; {against}{change} {unit} {ends}{beside}" if needed else ""
    return f"answers {answer} in {one} of {pictures} and in {two} of {others} ({points} {interval}{effect})"


def verdict_sentence(
    target: str,
    kind: str,
    named: Sequence[AuditRow],
    pairs: Sequence[Interaction],
    suppressed: Sequence[AuditRow],
    note: str = "",
    pairs_of_values: Collection[str] = (),
    unit: str = UNITS[SOFTMAX],
    answer: str | None = None,
) -> str:
    """Return a verdict in words.

    Args:
        target: the target.
        kind: of the verdict.
        named: rows of the concepts that the verdict names, the strongest first.
        pairs: interactions that the verdict names.
        suppressed: rows of concepts that lower the target, the strongest first.
        note: what else is to be said, for verdicts without findings.
        pairs_of_values: groups of two values.
        unit: of the effects of a class.
        answer: the class that pictures are answered with; None where the target's name is that of the class.
    """
    clauses = [_pair_clause(pair) for pair in pairs[:1]]
    of_two = [row.concept.partition(":")[0] in pairs_of_values for row in named[:_MOST]]
    clauses += [effect_clause(row, two, unit, answer) for row, two in zip(named, of_two, strict=False)]
    begin = {
        "core": "Its own object decides",
        "spurious": "A shortcut",
        "both": "Its own object and a shortcut",
        "conjunction": "Two concepts together",
        "either-or": "One of two concepts is enough",
        "not elicited": "Not elicited",
        "not drawable": "Not drawable",
        "unnamed": "A feature without a name",
        "undecided": "Undecided",
    }[kind]
    text = "; ".join(clauses) if clauses else note
    more = len(named) - _MOST
    text += f"; and {more} more concepts" if more > 1 else "; and one more concept" if more == 1 else ""
    if suppressed:
        text += f". Suppressed by {', '.join(_suppressing(row, unit) for row in suppressed[:_MOST])}"
    return f"{target}: {begin}: {text}."


def _against(row: AuditRow) -> bool:
    """Return whether answers become rarer, by the whole interval, where the effect that was tested rises, or oftener
    where it falls."""
    if row.points_low is None or row.points_high is None:
        return False
    return row.points_high < 0 < row.effect or row.effect < 0 < row.points_low


def _wider_than_the_test(row: AuditRow) -> str:
    """Return what is to be said of a finding whose interval holds 0, such as by the generator's error."""
    held = row.finding and row.low <= 0 <= row.high
    return ", which holds 0 because it has more errors than those of the test" if held else ""


def _suppressing(row: AuditRow, unit: str) -> str:
    """Return a concept that lowers a target, with its effect where the target is answered more often with it."""
    change, ends = interval_texts(row.effect, row.low, row.high, signs="")
    return (
        f"{row.value} ({change} {unit} {ends}, though it is answered more often there)" if _against(row) else row.value
    )


def _pictures(row: AuditRow) -> str:
    group, _, value = row.concept.partition(":")
    return f"pictures without {group}" if value == "nothing" else f"{value} pictures"


def _pair_clause(pair: Interaction) -> str:
    names = [name.partition(":")[2] for name in (pair.concept_a, pair.concept_b)]
    together = " ".join(interval_texts(pair.effect, pair.low, pair.high, digits=1, signs=""))
    if pair.kind == "or":
        return f"{names[0]} or {names[1]} raises {pair.target}, both together no further ({together} beyond their sum)"
    verb = "raise" if pair.effect >= 0 else "change"
    return f"{names[0]} and {names[1]} together {verb} {pair.target} by {together} beyond the sum of their own effects"
