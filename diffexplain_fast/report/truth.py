"""The rows of a table of measured truth: effects of attributes, pairs and nameless cues on a common axis."""

import math
from contextlib import suppress
from typing import NamedTuple, TypedDict

from diffexplain_fast.errors import CorruptFileError
from diffexplain_fast.records import JsonObject, Number, read_as
from diffexplain_fast.results.truth import role_of_effect

_OPEN = (-math.inf, math.inf)
"""The interval of an effect without a known interval."""


TOGETHER = "together"
"""Kind of a row that is about two attributes at once."""
_AND = " and "


class _Bounded(TypedDict, total=False):
    interval: tuple[Number, Number] | None


class _Pair(_Bounded):
    first: str
    second: str
    effect: Number


class _Cue(_Bounded):
    cue: str
    effect: Number


class TruthRow(NamedTuple):
    """The measured effect of one attribute; ``left``, the widths and the places are percent of the axis."""

    kind: str
    value: str
    effect: float
    low: float
    high: float
    role: str
    left: float
    width: float
    low_place: float
    high_place: float

    @property
    def words(self) -> list[str]:
        """The words of the attribute, or of both."""
        return self.value.split(_AND) if self.kind == TOGETHER else [self.value]

    @property
    def bounded(self) -> bool:
        """Whether the interval is known."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def _of_form(kind: type, rows: object) -> list[JsonObject]:
    """Return the rows of a list that have the form of a TypedDict."""
    found = []
    for row in rows if isinstance(rows, list) else []:
        with suppress(CorruptFileError):
            found.append(read_as(kind, row, "truth"))
    return found


def _role(row: JsonObject) -> str:
    return role_of_effect(row["effect"], row.get("interval"))


def truth_rows(truth: JsonObject) -> tuple[list[TruthRow], float]:
    """Return the rows, the largest effects of either sign first, and the position of zero on their axis in percent.

    Args:
        truth: of a class, as ``make_classifier`` measures it: its "attributes"; what two of them do together, its
            "interactions"; and what no word names, its "unnamed". A user's truth may have the last two in another form,
            which is not shown.
    """
    attributes: list[JsonObject] = [*truth.get("attributes", [])]
    for pair in _of_form(_Pair, truth.get("interactions")):
        both = _AND.join(pair[end].rpartition(":")[2] for end in ("first", "second"))
        attributes.append({**pair, "attribute": f"{TOGETHER}:{both}", "role": _role(pair)})
    for row in _of_form(_Cue, truth.get("unnamed")):
        kind, _, value = row["cue"].rpartition(":")
        attributes.append({**row, "attribute": f"{kind} without a word:{value}", "role": _role(row)})
    if not attributes:
        return [], 0.0
    known = [{key: value for key, value in row.items() if value is not None} for row in attributes]
    attributes = [{"interval": _OPEN, "role": "none"} | row for row in known]
    ends = [0.0, *(end for row in attributes for end in (*row["interval"], row["effect"]) if math.isfinite(end))]
    low, span = min(ends), (max(ends) - min(ends)) or 1.0

    def place(value: float) -> float:
        return round(100 * (value - low) / span, 2) if math.isfinite(value) else 0.0

    rows = []
    for row in sorted(attributes, key=lambda row: (math.isnan(row["effect"]), -abs(row["effect"]))):
        kind, _, value = row["attribute"].rpartition(":")
        left, right = sorted((place(0.0), place(row["effect"])))
        bottom, top = row["interval"]
        places = left, right - left, place(bottom), place(top)
        rows.append(TruthRow(kind, value, row["effect"], bottom, top, row["role"], *places))
    return rows, place(0.0)
