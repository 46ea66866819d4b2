"""The profile of one iteration: time by part, family and kernel, launches, gaps, bytes by owner; and as a table."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from diffexplain_fast.measuring.profile.events import Call, Span, part_of, split_parts
from diffexplain_fast.measuring.profile.families import FAMILIES, HOST, family
from diffexplain_fast.measuring.profile.memory import WEIGHTS, Memory
from diffexplain_fast.measuring.profile.roofline import Roofline, Work

TOP = 10
"""Kernels (operators on the CPU) that are named."""
_NAME, _SPENT, _LITTLE = 44, 3, 0.05
"""Widest name of a kernel, most families named beside a part, and the share below which none is."""


@dataclass(frozen=True)
class Share:
    """What a part, a family or a kernel took."""

    name: str
    seconds: float  # on the CPU elapsed, on a GPU in kernels
    launches: int  # kernels on a GPU; on the CPU calls of operators that compute, without what these call
    families: Mapping[str, float]  # of a part, seconds by family; of a kernel, only its family


@dataclass(frozen=True)
class Gaps:
    """When the GPU waited between the first and the last kernel."""

    seconds: float  # without a kernel, in all
    number: int  # of gaps
    longest: float  # seconds of the longest


@dataclass(frozen=True)
class Profile:
    """Where the time and the memory of one iteration went."""

    about: Mapping[str, Any]  # what ran, and on what
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

    @property
    def replayed(self) -> bool:
        """Whether the sampler replayed CUDA graphs, whose inside has no steps, operators or owners."""
        return self.about["sampler"].get("cuda_graphs") == "replayed"

    def record(self) -> dict[str, Any]:
        """Return the profile as JSON values."""
        return asdict(self)


def summarise(
    calls: Sequence[Call],
    kernels: Sequence[Span],
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
    spans = split_parts(calls)
    # Of operators every call counts among the longest, inner ones too.
    longest = _sums([(name, seconds, 1) for name, seconds, _ in pieces if on_gpu or family(name) != HOST])[:TOP]
    return Profile(
        about=about,
        on_gpu=on_gpu,
        wall=sum(part.end - part.start for part in spans),
        total=sum(seconds for _, seconds, _ in pieces),
        launches=sum(count for _, _, count in pieces),
        parts=_parts(spans, calls, on_gpu),
        families=_sums([(family(name), seconds, count) for name, seconds, count in pieces]),
        kernels=[Share(it.name, it.seconds, it.launches, {family(it.name): it.seconds}) for it in longest],
        gaps=gaps_between(kernels) if on_gpu else None,
        memory=memory,
        roofline=roofline,
    )


def gaps_between(kernels: Sequence[Span]) -> Gaps:
    """Return when no kernel ran between the first and the last; kernels come by their start, and may overlap."""
    found, reached = [], kernels[0].end if kernels else 0.0
    for kernel in kernels:
        if kernel.start > reached:
            found.append(kernel.start - reached)
        reached = max(reached, kernel.end)
    return Gaps(sum(found), len(found), max(found, default=0.0))


def merge_steps(parts: Sequence[Share]) -> list[Share]:
    """Return the parts with the steps of the sampler as one, and those of the backward as another."""
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


def _parts(spans: Sequence[Span], calls: Sequence[Call], on_gpu: bool) -> list[Share]:
    """What each part took, by family; on the CPU the time between operators is the host's."""
    seconds: list[defaultdict[str, float]] = [defaultdict(float) for _ in spans]
    launches = [0] * len(spans)
    for call in calls:
        place = part_of(spans, call.start)
        if on_gpu:
            for name, duration in call.kernels:
                seconds[place][family(name)] += duration
            launches[place] += len(call.kernels)
        elif family(call.name) != HOST:
            seconds[place][family(call.name)] += call.own
            launches[place] += call.outermost
    if not on_gpu:
        for part, found in zip(spans, seconds, strict=True):
            found[HOST] = max(part.end - part.start - sum(found.values()), 0.0)
    return [
        Share(part.name, sum(found.values()), count, {name: found[name] for name in FAMILIES if found[name] > 0})
        for part, found, count in zip(spans, seconds, launches, strict=True)
    ]


def _sums(pieces: Iterable[tuple[str, float, int]]) -> list[Share]:
    """Seconds and launches by name, the longest first."""
    seconds: defaultdict[str, float] = defaultdict(float)
    launches: Counter[str] = Counter()
    for name, duration, count in pieces:
        seconds[name] += duration
        launches[name] += count
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    return [Share(name, duration, launches[name], {}) for name, duration in ordered]


def table(profile: Profile) -> str:
    """Return a profile as text for a terminal, at most about 100 characters wide."""
    about, memory, gaps = profile.about, profile.memory, profile.gaps
    sampler, unit = about["sampler"], "kernels" if profile.on_gpu else "operator calls"
    lines = [
        f"{about['pipeline']} with {about['classifier']}: {about['batch']} pictures, {sampler['num_inference_steps']} "
        f"{sampler['scheduler']} steps, guidance {sampler['guidance_scale']:g}, {sampler['backend']}, {about['dtype']}",
        f"{1e3 * profile.wall:.0f} ms under the profiler, {profile.launches} {unit}",
    ]
    if gaps is not None:
        waited = f"the GPU waited {1e3 * gaps.seconds:.1f} ms in {gaps.number} gaps between kernels"
        lines.append(f"{waited}, the longest {1e3 * gaps.longest:.2f} ms")
    if profile.replayed:
        lines.append("CUDA graphs were replayed: what is inside has no steps, operators or owners")
    lines += [
        "",
        *_rows("part", merge_steps(profile.parts), profile),
        *_rows("family", profile.families, profile),
        *_rows("kernel" if profile.on_gpu else "operator", profile.kernels, profile),
        *_roofline(profile.roofline),
        f"{'bytes':{_NAME}} {'MiB':>9}",
    ]
    sizes: dict[str, int | None] = dict(memory.owners)
    alive = {owner: moments for owner, moments in memory.timeline.owners.items() if owner != WEIGHTS}
    sizes |= {f"{owner}, most at once, counted": max(moments) for owner, moments in alive.items()}
    sizes |= {"peak, measured": memory.peak, "reserved by the allocator": memory.reserved}
    sizes |= {"peak, predicted for the sampler": memory.predicted}
    for name, size in sizes.items():
        if size is not None:
            beside = f"  {memory.covers}" if name == "peak, measured" else ""
            lines.append(f"{name:{_NAME}} {size / 2**20:9.1f}{beside}")
    return "\n".join(lines)


def _rows(title: str, shares: Sequence[Share], profile: Profile) -> list[str]:
    """A heading, a line for each share, and an empty line."""
    everything = profile.total or 1.0
    lines = [f"{title:{_NAME}} {'ms':>9} {'share':>6} {'calls':>7}"]
    for share in shares:
        spent = sorted(share.families.items(), key=lambda item: -item[1])[:_SPENT]
        spent = [(family, seconds) for family, seconds in spent if seconds >= _LITTLE * share.seconds]
        most = ", ".join(family if len(share.families) == 1 else f"{family} {1e3 * s:.0f}" for family, s in spent)
        row = f"{_short(share.name):{_NAME}} {1e3 * share.seconds:9.1f} {share.seconds / everything:6.1%}"
        lines.append(f"{row} {share.launches:7}  {most}".rstrip())
    return [*lines, ""]


def _roofline(roofline: Roofline | None) -> list[str]:
    """The ceilings, a line for each family and operator against them, and an empty line."""
    if roofline is None:
        return []
    ceilings = roofline.ceilings
    titles = f"{'work, counted':{_NAME}} {'ms':>9} {'GFLOP':>9} {'FLOP/byte':>9} {'GFLOP/s':>9} {'GB/s':>7}"
    lines = [
        f"ceilings: {1e-9 * ceilings.flop_rate:.1f} GFLOP/s in a {ceilings.dtype} product, "
        f"{1e-9 * ceilings.byte_rate:.1f} GB/s in a copy",
        f"{titles} {'of ceiling':>10}",
    ]
    return [*lines, *map(_work, (*roofline.families, *roofline.operators)), ""]


def _work(work: Work) -> str:
    row = f"{_short(work.name):{_NAME}} "
    if work.share is None:
        return f"{row}not counted"
    numbers = f"{'-':>9} {'-':>9} {'-':>9}"
    if work.flop is not None and work.intensity is not None:
        numbers = f"{1e-9 * work.flop:9.3f} {work.intensity:9.1f} {1e-9 * work.flop / work.seconds:9.1f}"
    row += f"{1e3 * work.seconds:9.1f} {numbers} {1e-9 * work.moved / work.seconds:7.1f} {work.share:10.1%}"
    return row if work.calls == work.of else f"{row}  {work.calls} of {work.of} calls"


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME // 2 - 3]}...{name[-_NAME // 2 :]}"
