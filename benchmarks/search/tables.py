"""Rows of one mode together, with the share of them that succeeded."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from diffexplain_fast.stats.intervals import wilson_interval


class OfMode(NamedTuple):
    """Rows of one mode.

    Attributes:
        mode: its name.
        rows: in order.
        share: of the rows that succeeded.
        least: lower end of the share's 95 % Wilson interval.
    """

    mode: str
    rows: list[dict[str, Any]]
    share: float
    least: float


def by_mode(rows: Sequence[dict[str, Any]], success: str) -> Iterator[OfMode]:
    """Yield the rows of each mode, in the order of the modes' first rows; ``success`` names what says that one did."""
    for mode in dict.fromkeys(row["mode"] for row in rows):
        group = [row for row in rows if row["mode"] == mode]
        hits = sum(row[success] for row in group)
        yield OfMode(mode, group, hits / len(group), wilson_interval(hits, len(group))[0])
