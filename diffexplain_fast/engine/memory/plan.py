"""Which step keeps what, under a byte limit: the fastest of all choices, by dynamic programming.

Steps run 0 ... N - 1 and their backwards N - 1 ... 0, so while step i runs backward the steps before it are still kept:

    minimise sum_i time(l_i)  with  sum_{j < i} kept(l_j) + working(l_i) <= limit for all i,  and
    sum_j kept(l_j) + head <= limit.

States are the (bytes, time) pairs that no other pair beats in both, for every number of bytes in host memory. Early
steps keep little and late steps much, because the memory of late steps is free when early steps are computed again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.views import View, Viewed

_UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Cost:
    """Costs of a storage level in one step.

    Attributes:
        kept: bytes kept from forward to backward.
        working: most bytes while the backward runs, including the kept bytes.
        time: forward and backward, in any unit that is the same for all levels.
        again: part of ``time`` that computes a forward again.
        host: bytes kept in host memory.
        workspace: part of ``working`` that libraries take.
        forward: part of ``time`` that is one forward, in the same unit.
    """

    kept: int
    working: int
    time: float
    again: float = 0.0
    host: int = 0
    workspace: int = 0
    forward: float = 0.0


@dataclass(frozen=True, repr=False)
class Plan(Viewed):
    """A choice of storage levels; prints as a table.

    Attributes:
        levels: level of each step by name, the decoder's last.
        parts: bytes by part: weights, each level's steps, the head.
        peak: most bytes at once, predicted.
        limit: bytes allowed, None without a limit.
        recompute: FLOP that are computed again, as a share of the steps' forward; above 1 where a step is computed
            again and its products once more.
        note: remark for the reader, such as a model that runs through its own modules.
        time: forward and backward of all steps and the decoder, in FLOP; a copy to host memory that nothing hides
            counts the FLOP that take as long.
    """

    levels: tuple[str, ...]
    parts: Mapping[str, int]
    peak: int
    limit: int | None
    recompute: float
    note: str = ""
    time: float = 0.0

    @property
    def summary(self) -> str:
        """The levels in a line, such as "18 steps at step, 2 at lean, the decoder at bands, 95 % computed again"."""
        *steps, decoder = self.levels
        first, *others = dict.fromkeys(steps)
        noun = "step" if steps.count(first) == 1 else "steps"
        counts = [f"{steps.count(first)} {noun} at {first}", *(f"{steps.count(name)} at {name}" for name in others)]
        return f"{', '.join(counts)}, the decoder at {decoder}, {100 * self.recompute:.0f} % computed again"

    def __str__(self) -> str:
        """Return the plan as a table: bytes by part, predicted peak, limit, share that is computed again."""
        rows = self._rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:{width}}  {value}" for name, value in rows)

    def _view(self) -> View:
        return View("Plan", {"levels": self.summary} | {name: value.strip() for name, value in self._rows()})

    def _rows(self) -> list[tuple[str, str]]:
        rows = [(name, f"{size / 2**20:12.1f} MiB") for name, size in self.parts.items()]
        rows += [("predicted peak", f"{self.peak / 2**20:12.1f} MiB")]
        rows += [("limit", "none".rjust(16) if self.limit is None else f"{self.limit / 2**20:12.1f} MiB")]
        rows += [("computed again", f"{100 * self.recompute:12.0f} % of a forward")]
        return [*rows, ("note", self.note)] if self.note else rows


def parse_bytes(memory: object, name: str = "memory") -> int | None:
    """Return a byte limit as a number, None for None and "auto".

    Args:
        memory: None, "auto", a whole number of bytes, or text such as "8GiB" or "500 MiB".
        name: name of the argument, for messages.

    Raises:
        TypeError: neither a number nor text.
        ValueError: text of another form, or a number below 1.
    """
    wanted = "'auto', None, a number of bytes, or text such as '8GiB'"
    if memory is None or memory == "auto":
        return None
    if isinstance(memory, bool) or not isinstance(memory, Integral | str):
        raise wrong_type(name, wanted, memory)
    memory = memory if isinstance(memory, str) else int(memory)
    if isinstance(memory, str):
        parsed = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([KMG]i?B|B|)\s*", memory)
        if parsed is None:
            raise wrong_value(name, wanted, repr(memory))
        memory = int(float(parsed[1]) * _UNITS[parsed[2]])
    if memory <= 0:
        raise wrong_value(name, wanted, memory)
    return memory


def choose_levels(costs: Sequence[Mapping[str, Cost]], head: int, limit: int, host: int = 0) -> list[str] | None:
    """Return the fastest level of every step under a limit, None if no choice fits.

    Args:
        costs: for each step the costs of the possible levels, by name.
        head: bytes that the decoder and its backward need beside the tensors that the steps keep.
        limit: bytes for everything counted here.
        host: bytes of host memory in which steps may be kept.
    """
    states = [_State(0, 0, 0.0, ())]
    for step in costs:
        grown = [
            _State(state.host + cost.host, state.kept + cost.kept, state.time + cost.time, (*state.names, name))
            for state in states
            for name, cost in step.items()
            if state.host + cost.host <= host and state.kept + max(cost.working, cost.kept) <= limit
        ]
        states = _unbeaten(grown)
    fitting = [state for state in states if state.kept + head <= limit]
    return list(min(fitting, key=lambda state: (state.time, state.kept)).names) if fitting else None


def least_bytes(costs: Sequence[Mapping[str, Cost]], head: int) -> int:
    """Return the smallest limit that ``choose_levels`` can meet without host memory.

    Args:
        costs: as in ``choose_levels``.
        head: as in ``choose_levels``.
    """
    # For each number of bytes kept so far, the smallest peak that led there.
    peaks = {0: 0}
    for step in costs:
        grown: dict[int, int] = {}
        for kept, peak in peaks.items():
            for cost in (cost for cost in step.values() if not cost.host):
                total = kept + cost.kept
                grown[total] = min(grown.get(total, 2**63), max(peak, kept + cost.working, total))
        smallest, peaks = 2**63, {}
        for total in sorted(grown):
            if grown[total] < smallest:
                smallest = peaks[total] = grown[total]
    return min(max(peak, kept + head) for kept, peak in peaks.items())


class _State(NamedTuple):
    """Levels of the first steps, the bytes they keep in host memory and on the device, and their time."""

    host: int
    kept: int
    time: float
    names: tuple[str, ...]


def _unbeaten(states: list[_State]) -> list[_State]:
    """Return the states that no other state with as many bytes in host memory beats in bytes and time."""
    best: dict[int, float] = {}
    unbeaten = []
    for state in sorted(states, key=lambda state: state[:3]):
        if state.time < best.get(state.host, float("inf")):
            best[state.host] = state.time
            unbeaten.append(state)
    return unbeaten
