"""A profile as a short table for the terminal."""

from collections.abc import Sequence

from diffexplain_fast.profiling.memory import WEIGHTS
from diffexplain_fast.profiling.profile import Profile, Share, merge_steps

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
        "",
        *_rows("part", merge_steps(profile.parts), profile),
        *_rows("family", profile.families, profile),
        *_rows("kernel" if profile.on_gpu else "operator", profile.kernels, profile),
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
        name = (
            share.name if len(share.name) <= _NAME else f"{share.name[: _NAME // 2 - 3]}...{share.name[-_NAME // 2 :]}"
        )
        spent = sorted(share.families.items(), key=lambda item: -item[1])[:_SPENT]
        spent = [(family, seconds) for family, seconds in spent if seconds >= _LITTLE * share.seconds]
        most = ", ".join(family if len(share.families) == 1 else f"{family} {1e3 * s:.0f}" for family, s in spent)
        row = f"{name:{_NAME}} {1e3 * share.seconds:9.1f} {share.seconds / everything:6.1%} {share.launches:7}  {most}"
        lines.append(row.rstrip())
    return [*lines, ""]


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
