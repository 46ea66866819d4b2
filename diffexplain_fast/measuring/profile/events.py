"""What torch's profiler saw, as plain values: calls on the host, kernels on a GPU, allocations, parts."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from diffexplain_fast.measuring.profile.families import HOST, family

MARK = "part: "
"""Begin of the names of ranges that say which part of the iteration begins."""
WHOLE = "iteration"
"""Name of the range around the whole iteration."""
_ENGINE = re.compile(r"(step \d+|decoder)(, backward)?")
"""Ranges that the fast engine puts round its parts."""
_MICRO, _NANO = 1e-6, 1e-9
_MEMORY = "[memory]"
_HOST_DEVICES = ("CPU", "MKLDNN", "IDEEP")


class Call(NamedTuple):
    """An operator, autograd node or range on the host; seconds on the profiler's clock."""

    name: str  # as the profiler gives it
    start: float  # when it began
    end: float  # when it returned
    own: float  # seconds without what it called
    outermost: bool = False  # whether it computes and nothing that computes had called it
    kernels: tuple[tuple[str, float], ...] = ()  # name and seconds of each kernel that it launched itself, on a GPU


class Span(NamedTuple):
    """A kernel, copy or fill on a GPU, or a part of the iteration; seconds on the profiler's clock."""

    name: str
    start: float
    end: float


def host_calls(events: Iterable[Any]) -> list[Call]:
    """Return the calls on the host among the events of a ``torch.profiler.profile``, by their start."""
    found = []
    for event in events:
        if not _on_host(event) or event.is_async or event.name == _MEMORY:
            continue
        # A range is seen on the GPU as well, under its own name, and is not a kernel.
        kernels = tuple((each.name, _MICRO * each.duration) for each in event.kernels if each.name != event.name)
        own = _MICRO * event.self_cpu_time_total
        found.append(Call(event.name, *_place(event), own, _outermost(event), kernels))
    return sorted(found, key=lambda call: (call.start, -call.end))


def device_kernels(events: Iterable[Any]) -> list[Span]:
    """Return what ran on GPUs among the same events, by its start."""
    found = [Span(each.name, *_place(each)) for each in events if not _on_host(each) and not each.is_user_annotation]
    return sorted(found, key=lambda kernel: (kernel.start, kernel.end))


def allocations(results: Any, on_gpu: bool) -> list[tuple[float, int]]:
    """Return when bytes of a GPU or the host were allocated (positive) or freed (negative), on the clock of calls."""
    found = [
        (_NANO * (event.start_ns() - results.trace_start_ns()), event.nbytes())
        for event in results.events()
        if event.name() == _MEMORY and (event.device_type().name in _HOST_DEVICES) != on_gpu
    ]
    return sorted(found, key=lambda change: change[0])


def _on_host(event: Any) -> bool:
    return event.device_type.name == "CPU"


def _place(event: Any) -> tuple[float, float]:
    return _MICRO * event.time_range.start, _MICRO * event.time_range.end


def _outermost(event: Any) -> bool:
    above = event
    while (above := above.cpu_parent) is not None:
        if family(above.name) != HOST:
            return False
    return family(event.name) != HOST


def split_parts(calls: Sequence[Call]) -> list[Span]:
    """Return the parts in the order in which they ran; together they are the whole iteration, without a gap.

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
    return [Span(name, starts[i], starts[i + 1]) for i, (_, name) in enumerate(begun)]


def part_of(parts: Sequence[Span], moment: float) -> int:
    """Return the index of the part in which a moment, in seconds on the clock of the parts, lies."""
    return max(bisect_right([part.start for part in parts], moment) - 1, 0)
