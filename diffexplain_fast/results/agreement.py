"""How an attribution's edits and an audit's drawn pictures agree: the same contrasts, by two ways to measure them."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.number_texts import effect_text
from diffexplain_fast.records import Count, Json, Number
from diffexplain_fast.results.audit_rows import INTERVENTION, PLACEBO, AuditRow
from diffexplain_fast.results.effects import Row
from diffexplain_fast.stats.intervals import student_quantile
from diffexplain_fast.stats.multiplicity import selected_level
from diffexplain_fast.stats.placebo import adjusted_p
from diffexplain_fast.taxonomy import Concept

_CONFIDENCE, _LEVEL = 0.95, 0.05
_NORMAL = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2)
_WORD = "word"
"""Group of the free words of an audit."""


class Levels(NamedTuple):
    """Errors of an audit's intervals, in (0, 1).

    Attributes:
        plain: of the effects of all rows, and of those beside the own object.
        found: of the effects of findings, whose intervals are wider because they were chosen.
    """

    plain: float = _LEVEL
    found: float = _LEVEL


_USUAL = Levels()
Cells = dict[tuple[int, str], tuple[float, float]]
"""Picture and value to what the value does to the picture's score, and the half-width of its interval."""


@dataclass
class AgreementRow:
    """One concept, as an audit has measured it and as edits have.

    Both are contrasts over the same values: those of the concept's group that both know. A value's effect is against
    the median of theirs, that of a free word against its absence.

    Attributes:
        concept: "group:value", or "word:value" for a free word.
        audited: effect of the audit, among pictures of the target's own object where the audit has a number for them.
        audited_low: lower end of its interval.
        audited_high: upper end.
        edited: effect of the edits, over the pictures.
        edited_low: lower end of its 95 % interval, over pictures, and no nearer than their edits' own errors allow.
        edited_high: upper end.
        adjusted_p: p-value that both are one effect, adjusted for the number of concepts.
        differ: whether it is below 0.05.
        own: whether ``audited`` is of pictures of the target's own object.
        pictures: that have an edit to the value, or show it.
    """

    concept: str
    audited: Number
    audited_low: Number
    audited_high: Number
    edited: Number
    edited_low: Number
    edited_high: Number
    adjusted_p: Number
    differ: bool
    own: bool
    pictures: Count


@dataclass
class AuditAgreement:
    """How edits of given pictures agree with an audit.

    Attributes:
        rows: of every concept that both have measured, the largest difference first.
        correlation: Pearson's r of the two effects over the concepts; None for fewer than three, or without spread.
        low: lower end of its 95 % interval by Fisher's transformation; None for fewer than four concepts.
        high: upper end. Concepts of one group are not independent, so the interval is rather too narrow.
    """

    rows: list[AgreementRow]
    correlation: Number | None
    low: Number | None
    high: Number | None

    @property
    def differ(self) -> list[AgreementRow]:
        """Rows in which the two differ by more than their errors allow."""
        return [row for row in self.rows if row.differ]

    @property
    def sentences(self) -> list[str]:
        """What the two say of each other: a line, and one for each concept in which they differ."""
        how = "" if self.correlation is None else f", correlation {self.correlation:.2f}"
        said = [f"Audit and edits: {len(self.differ)} of {len(self.rows)} concepts differ{how}"]
        for row in self.differ:
            one, other = (effect_text(value) for value in (row.audited, row.edited))
            said.append(f"{row.concept}: {one} by the audit, {other} by the edits")
        return said


def levels_of(rows: Sequence[AuditRow], settings: Mapping[str, Json]) -> Levels:
    """Return the errors of an audit's intervals.

    Args:
        rows: of all targets.
        settings: of the audit, which is no difference of two.
    """
    level = float(settings.get("level", _LEVEL))
    drawn = [row for row in rows if row.concept.partition(":")[0] not in (INTERVENTION, PLACEBO)]
    found = np.array([row.finding for row in drawn], dtype=bool)
    tested = np.array([math.isfinite(row.p) for row in drawn], dtype=bool)
    return Levels(level, selected_level(found, tested, level))


def agreement_of(
    rows: Sequence[Row],
    same: Sequence[int],
    shown: Sequence[Collection[str]],
    concepts: Sequence[Concept],
    audited: Sequence[AuditRow],
    levels: Levels = _USUAL,
) -> AuditAgreement:
    """Return how edits of pictures agree with an audit of one target.

    The effects of edits are those of showing another value than the picture's own, and the audit's compare a value with
    the median over its group. So each picture's edits are brought to a common base, by least squares with a number for
    each picture and each value of a group, in which the value that a picture shows already has an effect of 0. A value
    that is neither shown nor edited, because a budget left it out or no caption says it, is not measured. Edits that no
    verifier has seen, and quick ones, are left out, and so is the group of the target's own object, which a picture
    without it does not show.

    Args:
        rows: of the attribution.
        same: of each picture the first one that is equal to it.
        shown: of each picture the names of the concepts that it shows already.
        concepts: of its taxonomy.
        audited: rows of the audit, of the attribution's target.
        levels: of the audit's intervals; see ``levels_of``.

    Raises:
        ValueError: no concept that both have measured.
    """
    own = {row.concept.partition(":")[0] for row in audited if row.declared_by == "label"}
    known = {row.concept.casefold(): row for row in audited if math.isfinite(row.effect)}
    groups: dict[str, dict[str, str]] = {}
    for concept in concepts:
        name = f"{concept.category or _WORD}:{concept.word}".casefold()
        if name in known and known[name].concept.partition(":")[0] not in own:
            groups.setdefault(known[name].concept.partition(":")[0], {})[concept.name] = known[name].concept
    found = [
        one for group, names in groups.items() for one in _rows_of(group, names, (rows, same, shown), known, levels)
    ]
    if not found:
        raise wrong_value("audit", "an audit with concepts that were edited, beside the target's own object", "none")
    for row, p in zip(found, adjusted_p([row.adjusted_p for row in found]), strict=True):
        row.adjusted_p, row.differ = p, p < _LEVEL
    found.sort(key=lambda row: -abs(row.edited - row.audited))
    return AuditAgreement(found, *correlation_of([row.audited for row in found], [row.edited for row in found]))


def correlation_of(one: Sequence[float], other: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Return Pearson's r of two lists of numbers, and the ends of its interval; None where there is none."""
    n = len(one)
    if n < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None, None, None
    r = float(np.corrcoef(one, other)[0, 1])
    if n < 4 or abs(r) >= 1:
        return r, None, None
    half = _NORMAL / math.sqrt(n - 3)
    return r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def _rows_of(
    group: str,
    names: Mapping[str, str],
    edits: tuple[Sequence[Row], Sequence[int], Sequence[Collection[str]]],
    known: Mapping[str, AuditRow],
    levels: Levels,
) -> list[AgreementRow]:
    """Return the rows of one group, not yet adjusted for their number.

    Names are those of concepts in the attribution, to those in the audit.
    """
    found, parts = [], [[name] for name in names] if group == _WORD else [[*names]]
    for part in parts:
        cells = _cells(part, *edits)
        values = [name for name in part if any(value == name for _, value in cells)]
        effects = _contrasts(cells, values)
        if effects is None or (len(values) < 2 and group != _WORD):
            continue
        told = [known[names[name].casefold()] for name in values]
        audited = [_audited(row) for row in told]
        middle = 0.0 if group == _WORD else float(np.median([effect for effect, _, _ in audited]))
        for name, row, (effect, low, high), (edited, half) in zip(values, told, audited, effects, strict=True):
            ends = effect - middle, low - middle, high - middle
            pictures = sum(value == name for _, value in cells)
            mine, own = (edited, edited - half, edited + half), _beside_own(row) is not None
            error = _error((high - low) / 2, levels.found if row.finding and not own else levels.plain)
            p = _p(effect - middle - edited, math.hypot(error, half / _NORMAL))
            found.append(AgreementRow(names[name], *ends, *mine, p, False, own, pictures))
    return found


def _audited(row: AuditRow) -> tuple[float, float, float]:
    return _beside_own(row) or (row.effect, row.low, row.high)


def _beside_own(row: AuditRow) -> tuple[float, float, float] | None:
    """Return the effect beside the own object with its interval; None without one, or where nothing tells its error."""
    if row.own_effect is None or row.own_low is None or row.own_high is None:
        return None
    return row.own_effect, row.own_low, row.own_high


def _cells(names: Sequence[str], rows: Sequence[Row], same: Sequence[int], shown: Sequence[Collection[str]]) -> Cells:
    """Return what values do to pictures; equal pictures are one, and the value that a picture shows does nothing."""
    cells: Cells = {}
    for picture in dict.fromkeys(same):
        mine = {row.concept: row for row in rows if row.image == picture and row.concept in names}
        own = [name for name in names if name in shown[picture]]
        for row in mine.values():
            if row.success:
                cells[picture, row.concept] = row.effect, (row.high - row.low) / 2
        if mine and len(own) == 1:  # beside several, as of hair and eyes, nobody knows which one an edit replaces
            cells[picture, own[0]] = 0.0, 0.0
    return cells


def _contrasts(cells: Cells, values: Sequence[str]) -> list[tuple[float, float]] | None:
    """Return the effect of each value against the median of all, and half of its interval; None if they do not compare.

    The error is that of a jackknife over pictures, at Student's degrees of freedom, and at least the mean's of the
    edits' own errors.
    """
    pictures = [*dict.fromkeys(picture for picture, _ in cells)]
    whole = _fitted(cells, values)
    if whole is None:
        return None
    left = [_fitted({at: cell for at, cell in cells.items() if at[0] != one}, values) for one in pictures]
    n, found = len(pictures), []
    for i, value in enumerate(values):
        halves = [half for (_, name), (_, half) in cells.items() if name == value]
        least = math.sqrt(sum(half**2 for half in halves)) / len(halves)
        spread = 0.0
        if n > 1:
            again = [math.nan if fit is None else fit[i] for fit in left]
            error = math.sqrt((n - 1) / n * float(((np.array(again) - np.mean(again)) ** 2).sum()))
            spread = math.inf if math.isnan(error) else student_quantile((1 + _CONFIDENCE) / 2, n - 1) * error
        found.append((whole[i], max(least, spread)))
    return found


def _fitted(cells: Cells, values: Sequence[str]) -> list[float] | None:
    """Return the effect of each value against the median of all, of one value alone its mean; None if not comparable.

    Least squares of a number for each picture and each value; the values of two pictures compare only through those
    that both have.
    """
    if len(values) == 1:
        return [float(np.mean([effect for effect, _ in cells.values()]))] if cells else None
    pictures = [*dict.fromkeys(picture for picture, _ in cells)]
    design = np.zeros((len(cells), len(values) + len(pictures)))
    for i, (picture, value) in enumerate(cells):
        design[i, values.index(value)] = design[i, len(values) + pictures.index(picture)] = 1
    if not cells or np.linalg.matrix_rank(design) < design.shape[1] - 1:
        return None
    effects = np.linalg.lstsq(design, np.array([effect for effect, _ in cells.values()]), rcond=None)[0]
    fitted = effects[: len(values)]
    return [float(one) for one in fitted - np.median(fitted)]


def _error(half: float, level: float) -> float:
    """Return the standard error of an effect from half of its interval; infinite where a level tells none."""
    return half / NormalDist().inv_cdf(1 - level / 2) if 0 < level < 1 else math.inf


def _p(difference: float, error: float) -> float:
    """Return how probable a difference is where both are one effect; 1 where its error is not known."""
    if not math.isfinite(error) or error == 0:
        return 1.0
    return 2 * (1 - NormalDist().cdf(abs(difference) / error))
