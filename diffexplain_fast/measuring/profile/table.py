"""A profile as a short table for the terminal."""

from collections.abc import Sequence

from diffexplain_fast.measuring.profile.memory import WEIGHTS
from diffexplain_fast.measuring.profile.profile import Profile, Share, merge_steps
from diffexplain_fast.measuring.profile.roofline import Roofline, Work

_NAME, _SPENT, _LITTLE = 44, 3, 0.05
"""Widest name of a kernel, most families named beside a part, and the share below which none is."""


def table(profile: Profile) -> str:
    """Return the profile as text, at most about 100 characters wide.

    Args:
        profile: what to show.
    """
    about, memory = profile.about, profile.memory
    sampler, unit = about["sampler"], "kernels" if profile.on_gpu else "operator calls"
    lines = [
        f"{about['pipeline']} with {about['classifier']}: {about['batch']} pictures, {sampler['num_inference_steps']} "
        f"{sampler['scheduler']} steps, guidance {sampler['guidance_scale']:g}, {sampler['backend']}, {about['dtype']}",
        f"{1e3 * profile.wall:.0f} ms under the profiler, {profile.launches} {unit}",
        *_gaps(profile),
        *["CUDA graphs were replayed: what is inside has no steps, operators or owners"] * profile.replayed,
        "",
        *_rows("part", merge_steps(profile.parts), profile),
        *_rows("family", profile.families, profile),
        *_rows("kernel" if profile.on_gpu else "operator", profile.kernels, profile),
        *_roofline(profile.roofline),
        f"{'bytes':{_NAME}} {'MiB':>9}",
    ]
    lines += [_bytes(name, size) for name, size in memory.owners.items()]
    alive = {owner: sizes for owner, sizes in memory.timeline.owners.items() if owner != WEIGHTS}
    lines += [_bytes(f"{owner}, most at once, counted", max(sizes)) for owner, sizes in alive.items()]
    lines += [_bytes("peak, measured", memory.peak) + f"  {memory.covers}"]
    lines += [] if memory.reserved is None else [_bytes("reserved by the allocator", memory.reserved)]
    lines += [] if memory.predicted is None else [_bytes("peak, predicted for the sampler", memory.predicted)]
    return "\n".join(lines)


def _rows(title: str, shares: Sequence[Share], profile: Profile) -> list[str]:
    """Return a heading, a line for each share, and an empty line."""
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
    """Return the ceilings, a line for each family and operator against them, and an empty line."""
    if roofline is None:
        return []
    ceilings = roofline.ceilings
    lines = [
        f"ceilings: {1e-9 * ceilings.flop_rate:.1f} GFLOP/s in a {ceilings.dtype} product, "
        f"{1e-9 * ceilings.byte_rate:.1f} GB/s in a copy",
        f"{'work, counted':{_NAME}} {'ms':>9} {'GFLOP':>9} {'FLOP/byte':>9} {'GFLOP/s':>9} {'GB/s':>7} "
        f"{'of ceiling':>10}",
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


def _gaps(profile: Profile) -> list[str]:
    gaps = profile.gaps
    if gaps is None:
        return []
    return [
        f"the GPU waited {1e3 * gaps.seconds:.1f} ms in {gaps.number} gaps between kernels, the longest "
        f"{1e3 * gaps.longest:.2f} ms"
    ]


def _bytes(name: str, size: int) -> str:
    return f"{name:{_NAME}} {size / 2**20:9.1f}"
