"""Bytes of one iteration: the most at once, and who owns them from moment to moment."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from diffexplain_fast.measuring.profile.counting import Life

WEIGHTS, KEPT, HELD, TRANSIENT = "weights", "kept", "held otherwise", "transient"
OWNERS = (WEIGHTS, KEPT, HELD, TRANSIENT)
"""Models' weights and their layouts; tensors that autograd, or the engine with it, keeps for a backward; other tensors
that the forward made and the backward still finds, such as samples, text, and those that other hooks keep; the rest."""
POINTS = 400
"""Most moments of the timeline; each stands for the most bytes of its interval."""


@dataclass(frozen=True)
class Timeline:
    """Bytes of counted tensors over time, by owner."""

    moments: Sequence[float]  # seconds since the iteration began, on the clock of the profiled iteration
    # bytes at these moments by owner, ``OWNERS`` in their order; together they are everything that was counted
    owners: Mapping[str, Sequence[int]]

    @property
    def totals(self) -> list[int]:
        """Bytes of all owners at each moment."""
        return _totals(self.owners)


@dataclass(frozen=True)
class Memory:
    """Bytes of one iteration."""

    peak: int  # most bytes at once; measured on a GPU, counted on the CPU
    covers: str  # which tensors the peak counts
    # bytes by owner: the models' weights as loaded, and those that the sampler keeps by its plan; on a GPU also bytes
    # on the host, and those that the allocator reserved beyond the counted tensors
    owners: Mapping[str, int]
    predicted: int | None  # peak that the plan predicts, None without a plan
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
    return max(_totals(alive), default=0)


def timeline(alive: Mapping[str, Sequence[int]], weights: int, moments: Sequence[float], seconds: float) -> Timeline:
    """Return the bytes by owner at no more than ``POINTS`` moments, in equal steps; each is the most of its step.

    Args:
        alive: from ``bytes_by_owner``.
        weights: bytes of all weights and their layouts.
        moments: seconds at which each operation ran, since the iteration began.
        seconds: of the whole iteration.
    """
    totals, most = _totals(alive), dict[int, int]()
    for number, moment in enumerate(moments):
        step = min(int(POINTS * moment / seconds), POINTS - 1)
        if step not in most or totals[number] > totals[most[step]]:
            most[step] = number
    chosen = [most[step] for step in sorted(most)]
    owners = {owner: [sizes[number] for number in chosen] for owner, sizes in alive.items()}
    return Timeline([seconds * step / POINTS for step in sorted(most)], {WEIGHTS: [weights] * len(chosen), **owners})


def _totals(owners: Mapping[str, Sequence[int]]) -> list[int]:
    return [sum(sizes) for sizes in zip(*owners.values(), strict=True)]
