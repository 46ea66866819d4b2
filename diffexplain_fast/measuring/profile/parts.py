"""The parts of an iteration: intervals of time that follow one another without a gap."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from diffexplain_fast.measuring.profile.events import MARK, WHOLE, Call

_ENGINE = re.compile(r"(step \d+|decoder)(, backward)?")
"""Ranges that the fast engine puts round its parts."""


class Part(NamedTuple):
    """A part of the iteration, in seconds on the profiler's clock."""

    name: str
    start: float
    end: float


def split_parts(calls: Sequence[Call]) -> list[Part]:
    """Return the parts in the order in which they ran; together they are the whole iteration.

    A part begins with its mark, or with the fast engine's own range, and lasts until the next one begins.

    Args:
        calls: of the host, with one range around the whole iteration and marks inside.
    """
    whole = next(call for call in calls if call.name == WHOLE)
    begun = [
        (call.start, call.name.removeprefix(MARK))
        for call in calls
        if call.name.startswith(MARK) or _ENGINE.fullmatch(call.name)
    ]
    starts = [whole.start, *(start for start, _ in begun[1:]), whole.end]
    return [Part(name, starts[i], starts[i + 1]) for i, (_, name) in enumerate(begun)]


def part_of(parts: Sequence[Part], moment: float) -> int:
    """Return the index of the part in which a moment lies.

    Args:
        parts: from ``split_parts``.
        moment: seconds on their clock.
    """
    return max(bisect_right([part.start for part in parts], moment) - 1, 0)
