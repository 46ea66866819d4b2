"""The profile of one iteration: time by part, family and kernel, launches, gaps, bytes by owner."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from diffexplain_fast.measuring.profile.events import Call, Kernel
from diffexplain_fast.measuring.profile.families import FAMILIES, HOST, family
from diffexplain_fast.measuring.profile.memory import Memory
from diffexplain_fast.measuring.profile.parts import part_of, split_parts
from diffexplain_fast.measuring.profile.roofline import Roofline

TOP = 10
"""Kernels (operators on the CPU) that are named."""


@dataclass(frozen=True)
class Share:
    """What a part, a family or a kernel took.

    Attributes:
        name: of the part, family or kernel.
        seconds: on the CPU elapsed, on a GPU in kernels.
        launches: kernels on a GPU; on the CPU calls of operators that compute, without what these call.
        families: of a part, seconds by family; of a kernel, its family alone.
    """

    name: str
    seconds: float
    launches: int
    families: Mapping[str, float]


@dataclass(frozen=True)
class Gaps:
    """When the GPU waited between the first and the last kernel.

    Attributes:
        seconds: without a kernel, in all.
        number: of gaps.
        longest: seconds of the longest.
    """

    seconds: float
    number: int
    longest: float


@dataclass(frozen=True)
class Profile:
    """Where the time and the memory of one iteration went; ``str`` gives a table.

    Attributes:
        about: what ran, and on what.
        on_gpu: whether seconds are those of kernels on a GPU, else those of operators on the CPU.
        wall: seconds of the iteration under the profiler.
        total: seconds that the families share; on the CPU the profiler's total self time.
        launches: see ``Share``.
        parts: in the order in which they ran.
        families: the longest first.
        kernels: the longest kernels, on the CPU operators, without ``host``.
        gaps: on a GPU.
        memory: bytes.
        roofline: families and operators against the machine's ceilings, None where nothing was counted.
    """

    about: Mapping[str, Any]
    on_gpu: bool
    wall: float
    total: float
    launches: int
    parts: Sequence[Share]
    families: Sequence[Share]
    kernels: Sequence[Share]
    gaps: Gaps | None
    memory: Memory
    roofline: Roofline | None

    @property
    def replayed(self) -> bool:
        """Whether the sampler replayed CUDA graphs, whose inside has no steps, operators or owners."""
        return self.about["sampler"].get("cuda_graphs") == "replayed"

    def record(self) -> dict[str, Any]:
        """Return the profile as JSON values."""
        return asdict(self)


def summarise(
    calls: Sequence[Call],
    kernels: Sequence[Kernel],
    on_gpu: bool,
    memory: Memory,
    about: Mapping[str, Any],
    roofline: Roofline | None = None,
) -> Profile:
    """Return the profile of what was seen.

    Args:
        calls: of the host.
        kernels: of the GPU, empty on the CPU.
        on_gpu: whether kernels are what took the time.
        memory: bytes, measured elsewhere.
        about: what ran, as JSON values.
        roofline: made elsewhere.
    """
    pieces = [(item.name, item.end - item.start, 1) for item in kernels]
    if not on_gpu:
        pieces = [(call.name, call.own, int(call.outermost)) for call in calls]
    parts = _parts(calls, on_gpu)
    return Profile(
        about=about,
        on_gpu=on_gpu,
        wall=sum(part.end - part.start for part in split_parts(calls)),
        total=sum(seconds for _, seconds, _ in pieces),
        launches=sum(count for _, _, count in pieces),
        parts=parts,
        families=_sums([(family(name), seconds, count) for name, seconds, count in pieces]),
        kernels=_top(pieces, on_gpu),
        gaps=gaps_between(kernels) if on_gpu else None,
        memory=memory,
        roofline=roofline,
    )


def gaps_between(kernels: Sequence[Kernel]) -> Gaps:
    """Return when no kernel ran between the first and the last; kernels may overlap.

    Args:
        kernels: by their start.
    """
    found, reached = [], kernels[0].end if kernels else 0.0
    for kernel in kernels:
        if kernel.start > reached:
            found.append(kernel.start - reached)
        reached = max(reached, kernel.end)
    return Gaps(sum(found), len(found), max(found, default=0.0))


def merge_steps(parts: Sequence[Share]) -> list[Share]:
    """Return the parts with the steps of the sampler as one, and those of the backward as another.

    Args:
        parts: in the order in which they ran.
    """
    merged: dict[str, list[Share]] = {}
    for part in parts:
        merged.setdefault(re.sub(r"^step \d+", "steps", part.name), []).append(part)
    return [
        Share(
            f"{len(group)} {name}" if name.startswith("steps") else name,
            sum(part.seconds for part in group),
            sum(part.launches for part in group),
            {
                kind: sum(part.families.get(kind, 0.0) for part in group)
                for kind in FAMILIES
                if any(kind in part.families for part in group)
            },
        )
        for name, group in merged.items()
    ]


def _parts(calls: Sequence[Call], on_gpu: bool) -> list[Share]:
    """Return what each part took, by family; on the CPU the time between operators is the host's."""
    parts = split_parts(calls)
    seconds: list[defaultdict[str, float]] = [defaultdict(float) for _ in parts]
    launches = [0] * len(parts)
    for call in calls:
        place = part_of(parts, call.start)
        if on_gpu:
            for name, duration in call.kernels:
                seconds[place][family(name)] += duration
            launches[place] += len(call.kernels)
        elif family(call.name) != HOST:
            seconds[place][family(call.name)] += call.own
            launches[place] += call.outermost
    if not on_gpu:
        for part, found in zip(parts, seconds, strict=True):
            found[HOST] = max(part.end - part.start - sum(found.values()), 0.0)
    return [
        Share(part.name, sum(found.values()), count, {name: found[name] for name in FAMILIES if found[name] > 0})
        for part, found, count in zip(parts, seconds, launches, strict=True)
    ]


def _sums(pieces: Sequence[tuple[str, float, int]]) -> list[Share]:
    """Return seconds and launches by name, the longest first."""
    seconds: defaultdict[str, float] = defaultdict(float)
    launches: Counter[str] = Counter()
    for name, duration, count in pieces:
        seconds[name] += duration
        launches[name] += count
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    return [Share(name, duration, launches[name], {}) for name, duration in ordered]


def _top(pieces: Sequence[tuple[str, float, int]], on_gpu: bool) -> list[Share]:
    """Return the longest kernels, each with its family; of operators every call counts, inner ones too."""
    rows = _sums([(name, seconds, 1) for name, seconds, _ in pieces if on_gpu or family(name) != HOST])
    return [Share(row.name, row.seconds, row.launches, {family(row.name): row.seconds}) for row in rows[:TOP]]
