"""The parts of an iteration: intervals of time that follow one another without a gap."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from diffexplain_fast.profiling.events import MARK, WHOLE, Call
from diffexplain_fast.profiling.iteration import BACKWARD, DECODER, SAMPLER, step_name

_STEP, _STEP_BACKWARD = "_GuidedStep", "_GuidedStepBackward"
"""Autograd nodes that end a step's forward and begin its backward in the fast engine."""


class Part(NamedTuple):
    """A part of the iteration, in seconds on the profiler's clock."""

    name: str
    start: float
    end: float


def split_parts(calls: Sequence[Call]) -> list[Part]:
    """Return the parts in the order in which they ran; together they are the whole iteration.

    Args:
        calls: of the host, with one range around the whole iteration and marks inside.
    """
    whole = next(call for call in calls if call.name == WHOLE)
    begun = [(call.start, call.name.removeprefix(MARK)) for call in calls if call.name.startswith(MARK)]
    starts = [whole.start, *(start for start, _ in begun[1:]), whole.end]
    parts = [Part(name, starts[i], starts[i + 1]) for i, (_, name) in enumerate(begun)]
    return [piece for part in parts for piece in _split_sampler(part, calls)]


def part_of(parts: Sequence[Part], moment: float) -> int:
    """Return the index of the part in which a moment lies.

    Args:
        parts: from ``split_parts``.
        moment: seconds on their clock.
    """
    return max(bisect_right([part.start for part in parts], moment) - 1, 0)


def _split_sampler(part: Part, calls: Sequence[Call]) -> list[Part]:
    """Split the sampler's part of the fast engine into steps and decoder where its autograd nodes tell them apart."""
    inside = [call for call in calls if part.start <= call.start < part.end]
    steps = [call for call in inside if call.name == _STEP]
    adjoint_steps = [call for call in inside if call.name == _STEP_BACKWARD]
    if part.name == SAMPLER and steps:
        cuts = [part.start, *(call.end for call in steps), part.end]
        names = [*(step_name(i) for i in range(1, len(steps) + 1)), DECODER]
    elif part.name == SAMPLER + BACKWARD and adjoint_steps and not steps:  # with steps, some are computed again
        cuts = [part.start, *(call.start for call in adjoint_steps), part.end]
        names = [DECODER + BACKWARD, *(step_name(i, backward=True) for i in range(len(adjoint_steps), 0, -1))]
    else:
        return [part]
    return [Part(name, cuts[i], cuts[i + 1]) for i, name in enumerate(names)]
