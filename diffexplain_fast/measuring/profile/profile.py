"""The profile of one iteration: time by part, family and kernel, launches, gaps, bytes by owner."""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from diffexplain_fast.measuring.profile.counting import Memory
from diffexplain_fast.measuring.profile.events import FAMILIES, HOST, Call, Span, family, split_parts
from diffexplain_fast.measuring.profile.roofline import Roofline

TOP = 10
"""Kernels (operators on the CPU) that are named."""


@dataclass(frozen=True)
class Share:
    """The time of a part, a family or a kernel."""

    name: str
    seconds: float  # on the CPU elapsed, on a GPU in kernels
    launches: int  # kernels on a GPU; on the CPU calls of operators that compute, without the calls inside
    families: Mapping[str, float]  # seconds by family; a kernel has one family, a family itself


@dataclass(frozen=True)
class Gaps:
    """The times at which the GPU waited between the first and the last kernel."""

    seconds: float  # without a kernel, in all
    number: int  # of gaps
    longest: float  # seconds of the longest


@dataclass(frozen=True)
class Profile:
    """Where the time and the memory of one iteration went."""

    about: Mapping[str, object]  # what ran, and on what
    on_gpu: bool  # whether seconds are those of kernels on a GPU, else those of operators on the CPU
    wall: float  # seconds of the iteration under the profiler
    total: float  # seconds that the families share; on the CPU the profiler's total self time
    launches: int  # see ``Share``
    parts: Sequence[Share]  # in the order in which they ran
    families: Sequence[Share]  # the longest first
    kernels: Sequence[Share]  # the longest kernels, on the CPU operators, without ``host``
    gaps: Gaps | None  # on a GPU
    memory: Memory  # bytes
    roofline: Roofline | None  # families and operators against the machine's ceilings, None where nothing was counted

    def record(self) -> dict[str, object]:
        """Return the profile as JSON values."""
        return asdict(self)


def summarise(
    calls: Sequence[Call],
    kernels: Sequence[Span],
    on_gpu: bool,
    memory: Memory,
    about: Mapping[str, object],
    roofline: Roofline | None = None,
) -> Profile:
    """Return the profile of an iteration from the host's calls and the GPU's kernels; none of these on the CPU.

    Time is that of kernels ``on_gpu``. ``about`` says what ran, as JSON values; memory and roofline are made elsewhere.
    """
    pieces = [(item.name, item.end - item.start, 1) for item in kernels]
    if not on_gpu:
        pieces = [(call.name, call.own, int(call.outermost)) for call in calls]
    spans = split_parts(calls)
    # Among the longest operators every call counts, inner ones too.
    longest = _sums([(name, family(name), seconds, 1) for name, seconds, _ in pieces if on_gpu or family(name) != HOST])
    return Profile(
        about=about,
        on_gpu=on_gpu,
        wall=sum(part.end - part.start for part in spans),
        total=sum(seconds for _, seconds, _ in pieces),
        launches=sum(count for _, _, count in pieces),
        parts=_parts(spans, calls, on_gpu),
        families=_sums([(family(name), family(name), seconds, count) for name, seconds, count in pieces]),
        kernels=longest[:TOP],
        gaps=gaps_between(kernels) if on_gpu else None,
        memory=memory,
        roofline=roofline,
    )


def gaps_between(kernels: Sequence[Span]) -> Gaps:
    """Return when no kernel ran between the first and the last; kernels come by their start, and may overlap."""
    gaps, reached = [], kernels[0].end if kernels else 0.0
    for kernel in kernels:
        if kernel.start > reached:
            gaps.append(kernel.start - reached)
        reached = max(reached, kernel.end)
    return Gaps(sum(gaps), len(gaps), max(gaps, default=0.0))


def merge_steps(parts: Sequence[Share]) -> list[Share]:
    """Return the parts with the steps of the sampler as one, and those of the backward as another."""
    merged: dict[str, list[Share]] = {}
    for part in parts:
        merged.setdefault(re.sub(r"^step \d+", "steps", part.name), []).append(part)
    return [
        Share(
            f"{len(group)} step{name[5:] if len(group) == 1 else name[4:]}" if name.startswith("steps") else name,
            sum(part.seconds for part in group),
            sum(part.launches for part in group),
            _in_order({kind: sum(part.families.get(kind, 0.0) for part in group) for kind in FAMILIES}),
        )
        for name, group in merged.items()
    ]


def _parts(spans: Sequence[Span], calls: Sequence[Call], on_gpu: bool) -> list[Share]:
    """The time of each part by family; on the CPU the time between operators is the host's."""
    seconds: list[defaultdict[str, float]] = [defaultdict(float) for _ in spans]
    launches, starts = [0] * len(spans), [part.start for part in spans]
    for call in calls:
        place = max(bisect_right(starts, call.start) - 1, 0)
        if on_gpu:
            for name, duration in call.kernels:
                seconds[place][family(name)] += duration
            launches[place] += len(call.kernels)
        elif family(call.name) != HOST:
            seconds[place][family(call.name)] += call.own
            launches[place] += call.outermost
    if not on_gpu:
        for part, known in zip(spans, seconds, strict=True):
            known[HOST] = max(part.end - part.start - sum(known.values()), 0.0)
    every = zip(spans, seconds, launches, strict=True)
    return [Share(part.name, sum(known.values()), count, _in_order(known)) for part, known, count in every]


def _in_order(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: seconds[name] for name in FAMILIES if seconds.get(name, 0.0) > 0}


def _sums(pieces: Iterable[tuple[str, str, float, int]]) -> list[Share]:
    """Seconds and launches by name, with the family of each name, the longest first."""
    sums: dict[str, Share] = {}
    for name, kind, seconds, count in pieces:
        old = sums.get(name, Share(name, 0.0, 0, {}))
        sums[name] = Share(name, old.seconds + seconds, old.launches + count, {kind: old.seconds + seconds})
    return sorted(sums.values(), key=lambda share: -share.seconds)
