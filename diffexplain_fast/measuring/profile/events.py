"""What torch's profiler saw, as plain values: calls on the host, kernels on a GPU, parts of the iteration."""

import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch.autograd.profiler_util import FunctionEvent

HOST, OTHER, MOVES = "host", "other", "layout and copy"
FAMILIES = ("convolution", "matmul", "attention", "norm", "elementwise", MOVES, HOST, OTHER)
"""Kinds of work. ``elementwise`` has reductions and resizing too. ``host`` is everything that computes nothing: Python,
autograd, views, allocation, launching. ``other`` is for names that no rule of ``families.toml`` matches."""
_TABLE = tomllib.loads(Path(__file__).with_name("families.toml").read_text(encoding="utf-8"))["rule"]
_RULES = [(rule["family"], re.compile(rule["pattern"].replace("{}", "|".join(rule["names"])))) for rule in _TABLE]
MARK = "part: "
"""First letters of the names of ranges that say which part of the iteration begins."""
WHOLE = "iteration"
"""Name of the range around the whole iteration."""
_ENGINE = re.compile(r"(step \d+|decoder)(, backward)?")  # ranges that the fast engine puts around its parts
_MICRO = 1e-6


class Call(NamedTuple):
    """An operator, autograd node or range on the host; seconds on the profiler's clock."""

    name: str  # as the profiler gives it
    start: float  # when it began
    end: float  # when it returned
    own: float  # seconds without the calls inside
    outermost: bool = False  # whether it computes, and nothing that computes had called it
    kernels: tuple[tuple[str, float], ...] = ()  # name and seconds of each kernel that it launched itself, on a GPU


class Span(NamedTuple):
    """A kernel, copy or fill on a GPU, or a part of the iteration; seconds on the profiler's clock."""

    name: str
    start: float
    end: float


def family(name: str) -> str:
    """Return the family of an operator or kernel by the name that torch's profiler gives it."""
    return next((kind for kind, pattern in _RULES if pattern.fullmatch(name)), OTHER)


def host_calls(events: Iterable[FunctionEvent]) -> list[Call]:
    """Return the calls on the host among the events of a ``torch.profiler.profile``, by their start."""
    calls = []
    for event in events:
        if not _on_host(event) or event.is_async or event.name == "[memory]":
            continue
        # The profiler sees a range on the GPU as well, under the range's own name; it is not a kernel.
        kernels = tuple((each.name, _MICRO * each.duration) for each in event.kernels if each.name != event.name)
        own = _MICRO * event.self_cpu_time_total
        calls.append(Call(event.name, *_place(event), own, _outermost(event), kernels))
    return sorted(calls, key=lambda call: (call.start, -call.end))


def device_kernels(events: Iterable[FunctionEvent]) -> list[Span]:
    """Return the work of GPUs among the same events, by its start."""
    spans = [Span(each.name, *_place(each)) for each in events if not _on_host(each) and not each.is_user_annotation]
    return sorted(spans, key=lambda kernel: (kernel.start, kernel.end))


def _on_host(event: FunctionEvent) -> bool:
    return event.device_type.name == "CPU"


def _place(event: FunctionEvent) -> tuple[float, float]:
    return _MICRO * event.time_range.start, _MICRO * event.time_range.end


def _outermost(event: FunctionEvent) -> bool:
    above: FunctionEvent | None = event.cpu_parent
    while above is not None:
        if family(above.name) != HOST:
            return False
        above = above.cpu_parent
    return family(event.name) != HOST


def split_parts(calls: Sequence[Call]) -> list[Span]:
    """Return the parts in the order in which they ran; together they are the whole iteration, without a gap.

    A part begins with its mark, or with the fast engine's own range, and lasts until the next part begins. One range of
    the host is around the whole iteration.
    """
    whole = next(call for call in calls if call.name == WHOLE)
    marks = [call for call in calls if call.name.startswith(MARK) or _ENGINE.fullmatch(call.name)]
    starts = [whole.start, *(call.start for call in marks[1:]), whole.end]
    return [Span(call.name.removeprefix(MARK), *starts[i : i + 2]) for i, call in enumerate(marks)]
