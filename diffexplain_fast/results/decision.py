"""Whether an audit passes conditions such as "spurious>0.5", for scripts and continuous integration."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from diffexplain_fast.errors import unknown_name, wrong_type, wrong_value
from diffexplain_fast.records import Number
from diffexplain_fast.results.audit_rows import PLACEBO, AuditRow
from diffexplain_fast.results.photographs import Photographs
from diffexplain_fast.results.record import Record

UNEXPLAINED = "unexplained"
MEASURES = ("false_answers", "spurious", "findings", "worst_group", UNEXPLAINED)
"""What conditions may name."""
_OF_EFFECTS = ("spurious", "findings")
_OF_ONE_AUDIT = ("worst_group", UNEXPLAINED)
_CONDITION = re.compile(r"\s*(\w+)\s*([<>])\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
_PROBABILITY = re.compile(r"ClassProbability\((.*)\)", re.DOTALL)
"""The log probability of a class, as a target that was asked for by name is described."""
_RAISES = ("spurious", "more")


@dataclass(frozen=True)
class Decision(Record):
    """One condition, and whether it is true of an audit.

    Attributes:
        condition: such as "spurious>0.5".
        value: of the measure that the condition names.
        failed: whether the condition is true, which is what it must not be.
        sentence: the same in words.
    """

    condition: str
    value: Number
    failed: bool
    sentence: str


def decide(
    conditions: object,
    rows: Sequence[AuditRow],
    photographs: Photographs | None,
    difference: bool = False,
    asking_only: Sequence[str] = (),
) -> list[Decision]:
    """Return whether conditions are true of an audit.

    Args:
        conditions: one or several, a measure, "<" or ">", and a number. "false_answers": the largest rise by a shortcut
            of the share of pictures without a target's own object, or by an intervention of all pictures, that are
            answered with the target, by the lower end of its interval. "spurious": the largest effect of a shortcut, by
            the lower end of its interval. "findings": how many shortcuts. "worst_group": the lowest accuracy, of a
            label and a concept in own pictures with labels by the lowest upper end of an interval, or else in generated
            pictures with a concept that is a finding. "unexplained": how many classes in own pictures are answered for
            something that no concept names. A shortcut of a difference of two audits is one that the first relies on
            more.
        rows: of the audit.
        photographs: what own pictures say, or None.
        difference: whether the audit is a difference of two, which has neither groups nor own pictures.
        asking_only: groups in which a difference is that of asking, although the audits report effects of showing.

    Raises:
        TypeError: no text.
        ValueError: a text of another form, an unknown measure, or one that this audit does not have.
    """
    texts = [conditions] if isinstance(conditions, str) else conditions
    if not isinstance(texts, Sequence) or not texts or any(not isinstance(text, str) for text in texts):
        raise wrong_type("conditions", 'texts such as "spurious>0.5"', conditions)
    for text in texts if difference else ():
        check_of_difference("condition", text, asking_only)
    real = [row for row in rows if not row.concept.startswith(f"{PLACEBO}:")]  # a placebo is never a finding
    return [_decided(text, real, photographs) for text in texts]


def check_of_difference(argument: str, text: str, asking_only: Sequence[str] = ()) -> None:
    """Refuse a condition that a difference of two audits cannot answer.

    Args:
        argument: name of the condition in the message.
        text: the condition.
        asking_only: see ``decide``.

    Raises:
        ValueError: "worst_group" or "unexplained"; "spurious" or "findings", whose limits are in effects of showing,
            where the difference has only those of asking in some groups.
    """
    refused = (*_OF_ONE_AUDIT, *(_OF_EFFECTS if asking_only else ()))
    if check_condition(text)[0] in refused:
        wanted = ", ".join(name for name in MEASURES if name not in refused) + " for a difference of two audits"
        if asking_only:
            wanted += (
                f" that have effects of showing in {', '.join(asking_only)}, where the difference is that of asking"
            )
        raise wrong_value(argument, wanted, repr(text))


def check_condition(text: str) -> tuple[str, str, float]:
    """Return measure, sign and number of a condition.

    Raises:
        ValueError: a text of another form, or an unknown measure.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise wrong_value("condition", 'a measure, "<" or ">", and a number, such as "spurious>0.5"', repr(text))
    if found[1] not in MEASURES:
        raise unknown_name("condition", found[1], MEASURES)
    return found[1], found[2], float(found[3])


def _decided(text: str, rows: Sequence[AuditRow], photographs: Photographs | None) -> Decision:
    name, sign, limit = check_condition(text)
    value, what = _MEASURED[name](rows, photographs)
    failed = value > limit if sign == ">" else value < limit
    said = "above" if sign == ">" else "below"
    sentence = f"{name} is {value:.3g} ({what}), {said if failed else 'not ' + said} {limit:g}"
    left = 0 if failed or sign == "<" else _undecided(name, limit, rows)
    if left:
        sentence += f"; but {left} of {len(rows)} effects are undecided and could be: more pictures decide them"
    wide = 0 if failed or sign == "<" else _uncertain(name, limit, rows)
    if wide:
        are = f"{wide} shortcuts that are found are" if wide > 1 else "one shortcut that is found is"
        sentence += f"; but {are} estimated above it, with an interval that reaches down to it"
    return Decision(text.strip(), value, failed, sentence)


def _undecided(name: str, limit: float, rows: Sequence[AuditRow]) -> int:
    """Return how many rows the pictures did not decide, whose intervals hold what would make the condition true."""
    open_rows = [row for row in rows if row.role == "undecided" and row.declared_by is None]
    if name == "spurious":
        return sum(not row.high <= limit for row in open_rows)  # NaN is an end that nobody knows
    if name == "false_answers":
        ends = [row.points_high for row in open_rows if row.answered_with is not None]
        return sum(end is None or end > limit for end in ends)
    return len(open_rows) if name == "findings" else 0


def _uncertain(name: str, limit: float, rows: Sequence[AuditRow]) -> int:
    """Return how many shortcuts are beyond a limit by their estimate, but not by the lower end of their interval."""
    if name == "spurious":
        return sum(row.effect > limit >= row.low for row in _shortcuts(rows))
    if name != "false_answers":
        return 0
    rises = [
        (row.answered_with - row.answered_without, row.points_low)
        for row in _shortcuts(rows)
        if row.answered_with is not None and row.answered_without is not None and row.points_low is not None
    ]
    return sum(rise > limit >= low for rise, low in rises)


def _shortcuts(rows: Sequence[AuditRow]) -> list[AuditRow]:
    return [row for row in rows if row.finding and row.role in _RAISES and row.declared_by is None]


def _false_answers(rows: Sequence[AuditRow], photographs: Photographs | None) -> tuple[float, str]:
    of_classes = [row for row in _shortcuts(rows) if row.answered_with is not None]
    ends = [(row.points_low, row) for row in of_classes if row.points_low is not None]
    left = len(of_classes) - len(ends)
    unknown = f"; the answers of {left} shortcut{'s' if left > 1 else ''} have no interval" if left else ""
    if not ends:
        return 0.0, f"no shortcut is found that raises answers{unknown}"
    low, row = max(ends, key=lambda end: end[0])
    return low, f"{_spoken(row.target)} in pictures with {row.concept}{unknown}"


def _spurious(rows: Sequence[AuditRow], photographs: Photographs | None) -> tuple[float, str]:
    if not _shortcuts(rows):
        return 0.0, "no shortcut is found"
    row = max(_shortcuts(rows), key=lambda row: row.low)
    return row.low, f"{row.concept} on {row.target}"


def _findings(rows: Sequence[AuditRow], photographs: Photographs | None) -> tuple[float, str]:
    return float(len(_shortcuts(rows))), f"shortcuts in {len(rows)} rows"


def _worst_group(rows: Sequence[AuditRow], photographs: Photographs | None) -> tuple[float, str]:
    groups = [] if photographs is None else [part for part in photographs.slices if part.concept]
    if groups:  # few pictures with a low accuracy do not hide many that are surely below the limit
        worst = min(groups, key=lambda part: part.high)
        return worst.high, f"at most, in {worst.pictures} own pictures of {worst.label} with {worst.concept}"
    found = [(row.accuracy_with, row.concept, row.target) for row in rows if row.finding]
    found += [(row.accuracy_without, "the median of their group", row.target) for row in rows]
    known = [(share, where, target) for share, where, target in found if share is not None]
    if not known:
        wanted = "own pictures with labels, or generated pictures of the targets' own objects, for worst_group"
        raise wrong_value("condition", wanted, "an audit without")
    share, where, target = min(known, key=lambda one: one[0])
    return share, f"generated pictures of {_spoken(target)} with {where}"


def _spoken(target: str) -> str:
    """Return the class with which pictures are answered, of a target that may be its log probability by name."""
    found = _PROBABILITY.fullmatch(target)
    return found[1] if found else target


def _unexplained(rows: Sequence[AuditRow], photographs: Photographs | None) -> tuple[float, str]:
    if photographs is None:
        raise wrong_value("condition", "own pictures (images=), for unexplained", "an audit without")
    if not photographs.explained:
        enough = "a class with which 8 own pictures or more are answered and 8 or more are not"
        wanted = f"an eye, groups of concepts, and {enough}, for unexplained"
        raise wrong_value("condition", wanted, "an audit without")
    names = photographs.unexplained
    return float(len(names)), ", ".join(names) or f"of {len(photographs.explained)} classes"


_MEASURED = {
    "false_answers": _false_answers,
    "spurious": _spurious,
    "findings": _findings,
    "worst_group": _worst_group,
    UNEXPLAINED: _unexplained,
}
