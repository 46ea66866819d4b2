"""The profile of an iteration for readers: one HTML page, where everything is escaped, and a text for a terminal."""

import json
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from diffexplain_fast.measuring.profile.counting import WEIGHTS, Timeline
from diffexplain_fast.measuring.profile.events import FAMILIES
from diffexplain_fast.measuring.profile.profile import Profile, Share, merge_steps
from diffexplain_fast.measuring.profile.roofline import Roofline, attainable
from diffexplain_fast.report.explanation import load_template
from diffexplain_fast.storage import write_bytes_atomic

WIDTH, HEIGHT, ROOF_HEIGHT = 600, 120, 240
"""Boxes of the timeline and of the roofline, in their own units."""
_NAME, _MOST, _LITTLE = 44, 3, 0.05
"""Widest name in the text, most families named beside a part, and the share below which none is."""


def render_profile(profile: Profile, path: str | Path) -> Path:
    """Write a profile as one HTML file that needs no network and runs no script, and return the file.

    Its folder is made if it does not exist; without space or permission it is a ``StorageError``.
    """
    timeline = profile.memory.timeline
    page = load_template("profile.html").render(
        **_view(profile),
        legend=list(enumerate(FAMILIES)),
        steps=[part for part in profile.parts if part.name.startswith("step ")],
        roof=None if profile.roofline is None else roof(profile.roofline),
        areas=areas(timeline, profile.wall),
        counted=max(timeline.totals, default=0),
        boxes={"width": WIDTH, "height": HEIGHT, "roof_height": ROOF_HEIGHT},
        settings=json.dumps(dict(profile.about), indent=1, ensure_ascii=False),
    )
    write_bytes_atomic(path, page.encode(errors="replace"))
    return Path(path)


def profile_text(profile: Profile) -> str:
    """Return a profile as text for a terminal, at most about 100 characters wide."""
    owners = {name: sizes for name, sizes in profile.memory.timeline.owners.items() if name != WEIGHTS}
    most = {f"{owner}, most at once, counted": max(sizes) for owner, sizes in owners.items()}
    return load_template("profile.txt").render(**_view(profile), most=most, short=_short, beside=_beside).rstrip()


def _view(profile: Profile) -> dict[str, object]:
    """The values that the page and the text both show."""
    sampler = profile.about["sampler"]
    replayed = isinstance(sampler, dict) and sampler.get("cuda_graphs") == "replayed"
    view = {"about": profile.about, "sampler": sampler, "profile": profile, "memory": profile.memory}
    view |= {"replayed": replayed, "unit": "kernels" if profile.on_gpu else "operator calls"}
    return view | {"parts": merge_steps(profile.parts), "total": profile.total or 1.0}


def _beside(share: Share) -> str:
    """The families in which most of a part's or kernel's time was spent."""
    spent = sorted(share.families.items(), key=lambda item: -item[1])[:_MOST]
    shown = [(name, seconds) for name, seconds in spent if seconds >= _LITTLE * share.seconds]
    return ", ".join(name if len(share.families) == 1 else f"{name} {1e3 * seconds:.0f}" for name, seconds in shown)


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME // 2 - 3]}...{name[-_NAME // 2 :]}"


def areas(timeline: Timeline, seconds: float) -> list[tuple[str, int, str]]:
    """Return owner, most bytes and corners of each layer of a timeline of so many seconds, the first at the bottom."""
    highest = max(timeline.totals, default=0)
    if highest == 0 or seconds <= 0:
        return []
    edges = [min(WIDTH * moment / seconds, WIDTH) for moment in timeline.moments] + [float(WIDTH)]
    layers, floor = [], [0] * len(timeline.moments)
    for name, sizes in timeline.owners.items():
        top = [below + size for below, size in zip(floor, sizes, strict=True)]
        corners = _stairs(edges, top, highest) + _stairs(edges, floor, highest)[::-1]
        layers.append((name, max(sizes), _points(corners)))
        floor = top
    return layers


def roof(roofline: Roofline) -> dict[str, object] | None:
    """Return the chart of FLOP/s over FLOP per byte of the work that has FLOP, None where no work has.

    Both axes are in powers of ten. It has the points of the ceiling, a dot for each kind of work (place, number of its
    family, whether it is a whole family, the work itself), and the ticks of both axes.
    """
    every = [(work, False) for work in roofline.operators] + [(work, True) for work in roofline.families]
    shown = [
        (work, (work.intensity, work.flop / work.seconds), large)
        for work, large in every
        if work.intensity and work.flop is not None and work.seconds > 0
    ]
    if not shown:
        return None
    ceilings = roofline.ceilings
    ridge = ceilings.flop_rate / ceilings.byte_rate
    across = _powers([ridge, *(intensity for _, (intensity, _), _ in shown)])
    up = _powers([ceilings.flop_rate, *(rate for _, (_, rate), _ in shown)])

    def place(intensity: float, rate: float) -> tuple[float, float]:
        x = WIDTH * (math.log10(intensity) - across[0]) / (across[-1] - across[0])
        return round(x, 1), round(ROOF_HEIGHT * (up[-1] - math.log10(rate)) / (up[-1] - up[0]), 1)

    # Where the slope leaves the box at the bottom, the line begins there.
    first = max(10.0 ** across[0], 10.0 ** up[0] / ceilings.byte_rate)
    return {
        "points": _points(place(at, attainable(ceilings, at)) for at in (first, ridge, 10.0 ** across[-1])),
        "dots": [(place(*where), FAMILIES.index(work.kind), large, work) for work, where, large in shown],
        "x_ticks": [(place(10.0**power, 1.0)[0], f"{10.0**power:g}") for power in across],
        "y_ticks": [(place(1.0, 10.0**power)[1], f"{10.0 ** (power - 9):g}") for power in up],
    }


def _points(corners: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)


def _powers(values: Sequence[float]) -> range:
    """Return the powers of ten from below the least of some values to above the most."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return range(low, max(high, low + 1) + 1)


def _stairs(edges: Sequence[float], sizes: Sequence[int], highest: int) -> list[tuple[float, float]]:
    """Return the corners of a line that is level between one edge and the next."""
    levels = [HEIGHT * (1 - size / highest) for size in sizes]
    return [(x, y) for (left, right), y in zip(pairwise(edges), levels, strict=True) for x in (left, right)]
