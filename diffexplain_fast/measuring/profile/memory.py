"""Bytes of one iteration: the most at once, and who owns them from moment to moment."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from diffexplain_fast.measuring.profile.counting import Life

WEIGHTS, KEPT, HELD, TRANSIENT = "weights", "kept", "held otherwise", "transient"
OWNERS = (WEIGHTS, KEPT, HELD, TRANSIENT)
"""Models' weights and their layouts; what autograd keeps for a backward, and the engine with it; what else the forward
made and the backward still finds, such as samples, text, and what other hooks than the count's keep; the rest."""
POINTS = 400
"""Most moments of the curve; each stands for the most bytes of its interval."""


@dataclass(frozen=True)
class Timeline:
    """Bytes of counted tensors over time, by owner."""

    moments: Sequence[float]  # seconds since the iteration began, on the clock of the profiled iteration
    # bytes at these moments by owner, ``OWNERS`` in their order; together they are all that was counted
    owners: Mapping[str, Sequence[int]]

    @property
    def totals(self) -> list[int]:
        """Bytes of all owners at each moment."""
        return [sum(sizes) for sizes in zip(*self.owners.values(), strict=True)]


@dataclass(frozen=True)
class Memory:
    """Bytes of one iteration."""

    peak: int  # most bytes at once, measured
    covers: str  # what the peak counts
    # bytes by owner: the models' weights as loaded, and what the plan says the sampler keeps; on a GPU also what was on
    # the host, and what the allocator reserved beyond the counted tensors
    owners: Mapping[str, int]
    predicted: int | None  # peak that the plan predicts, None without a plan
    curve: Sequence[tuple[float, int]]  # seconds since the begin and bytes allocated since then
    timeline: Timeline  # bytes by owner over time, counted
    # on a GPU most bytes that torch's allocator held at once in the counted iteration, else None
    reserved: int | None = None


def bytes_by_owner(lives: Iterable[Life], operations: int, backward: int) -> dict[str, list[int]]:
    """Return the bytes after each operation under ``KEPT``, ``HELD`` and ``TRANSIENT``; weights are not among them.

    Args:
        lives: of the tensors that the operations made.
        operations: how many there were.
        backward: how many there were before the backward began.
    """
    changes = {owner: [0] * (operations + 1) for owner in (KEPT, HELD, TRANSIENT)}

    def owned(owner: str, size: int, start: int, end: int) -> None:
        changes[owner][start] += size
        changes[owner][end] -= size

    for life in lives:
        end = operations if life.died is None else life.died
        otherwise, free = HELD if life.born < backward < end else TRANSIENT, life.born
        for start, stop in life.saved:
            owned(otherwise, life.size, free, start)
            free = end if stop is None else stop
            owned(KEPT, life.size, start, free)
        owned(otherwise, life.size, free, end)
    return {owner: list(accumulate(change[:-1])) for owner, change in changes.items()}


def most_bytes(alive: Mapping[str, Sequence[int]]) -> int:
    """Return the most bytes of all owners at once."""
    return max(map(sum, zip(*alive.values(), strict=True)), default=0)


def timeline(alive: Mapping[str, Sequence[int]], weights: int, moments: Sequence[float], seconds: float) -> Timeline:
    """Return the curve of bytes by owner over the seconds of an iteration.

    Args:
        alive: from ``bytes_by_owner``.
        weights: bytes of all weights and their layouts.
        moments: seconds at which each operation ran, since the iteration began.
        seconds: of the whole iteration.
    """
    totals = [sum(sizes) for sizes in zip(*alive.values(), strict=True)]
    chosen = highest(moments, totals, seconds)
    owners = {WEIGHTS: [weights] * len(chosen)}
    owners |= {owner: [sizes[number] for _, number in chosen] for owner, sizes in alive.items()}
    return Timeline([moment for moment, _ in chosen], owners)


def highest(moments: Sequence[float], sizes: Sequence[int], seconds: float) -> list[tuple[float, int]]:
    """Return at most ``POINTS`` moments in equal steps, and the index of the largest size in the step after each."""
    most: dict[int, int] = {}
    for number, moment in enumerate(moments):
        place = min(int(POINTS * moment / seconds), POINTS - 1)
        if place not in most or sizes[number] > sizes[most[place]]:
            most[place] = number
    return [(seconds * place / POINTS, most[place]) for place in sorted(most)]
