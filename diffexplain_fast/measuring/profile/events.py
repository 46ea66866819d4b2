"""What torch's profiler saw, as plain values: calls on the host, kernels on a GPU, allocations."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from diffexplain_fast.measuring.profile.families import HOST, family

MARK = "part: "
"""Begin of the names of ranges that say which part of the iteration begins."""
WHOLE = "iteration"
"""Name of the range around the whole iteration."""
_MICRO, _NANO = 1e-6, 1e-9
_MEMORY = "[memory]"
_HOST_DEVICES = ("CPU", "MKLDNN", "IDEEP")


class Call(NamedTuple):
    """An operator, autograd node or range on the host; seconds on the profiler's clock.

    Attributes:
        name: as the profiler gives it.
        start: when it began.
        end: when it returned.
        own: seconds without what it called.
        outermost: whether it computes and nothing that computes had called it.
        kernels: name and seconds of each kernel that it launched itself, on a GPU.
    """

    name: str
    start: float
    end: float
    own: float
    outermost: bool = False
    kernels: tuple[tuple[str, float], ...] = ()


class Kernel(NamedTuple):
    """A kernel, copy or fill on a GPU; seconds on the profiler's clock."""

    name: str
    start: float
    end: float


def host_calls(events: Iterable[Any]) -> list[Call]:
    """Return the calls on the host, by their start.

    Args:
        events: ``torch.profiler.profile(...).events()``.
    """
    found = []
    for event in events:
        if not _on_host(event) or event.is_async or event.name == _MEMORY:
            continue
        # A range is seen on the GPU as well, under its own name: no kernel.
        kernels = tuple(
            (kernel.name, _MICRO * kernel.duration) for kernel in event.kernels if kernel.name != event.name
        )
        place = _MICRO * event.time_range.start, _MICRO * event.time_range.end
        found.append(Call(event.name, *place, _MICRO * event.self_cpu_time_total, _outermost(event), kernels))
    return sorted(found, key=lambda call: (call.start, -call.end))


def device_kernels(events: Iterable[Any]) -> list[Kernel]:
    """Return what ran on GPUs, by its start.

    Args:
        events: as in ``host_calls``.
    """
    found = [
        Kernel(event.name, _MICRO * event.time_range.start, _MICRO * event.time_range.end)
        for event in events
        if not _on_host(event) and not event.is_user_annotation
    ]
    return sorted(found, key=lambda kernel: (kernel.start, kernel.end))


def allocations(results: Any, on_gpu: bool) -> list[tuple[float, int]]:
    """Return when bytes were allocated (positive) or freed (negative), by time, on the clock of the calls.

    Args:
        results: ``profile.profiler.kineto_results`` of a profile with ``profile_memory=True``.
        on_gpu: count a GPU's bytes and not the host's.
    """
    found = [
        (_NANO * (event.start_ns() - results.trace_start_ns()), event.nbytes())
        for event in results.events()
        if event.name() == _MEMORY and (event.device_type().name in _HOST_DEVICES) != on_gpu
    ]
    return sorted(found, key=lambda change: change[0])


def _on_host(event: Any) -> bool:
    return event.device_type.name == "CPU"


def _outermost(event: Any) -> bool:
    if family(event.name) == HOST:
        return False
    above = event.cpu_parent
    while above is not None:
        if family(above.name) != HOST:
            return False
        above = above.cpu_parent
    return True
