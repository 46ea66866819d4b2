"""Charts of a profile as the points of SVG shapes."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from diffexplain_fast.profiling.memory import Timeline

WIDTH, HEIGHT = 600, 120
"""Box of the charts, in their own units."""


class Area(NamedTuple):
    """A layer of a stacked chart: whose bytes, number of its colour, the most of it in MiB, corners of its shape."""

    name: str
    colour: int
    most: float
    points: str


def areas(timeline: Timeline, seconds: float) -> list[Area]:
    """Return bytes by owner over time as layers that lie on one another, the first at the bottom.

    Args:
        timeline: what to show.
        seconds: what the width stands for.

    Returns:
        A layer for each owner of the timeline, none where nothing was counted.
    """
    highest = max(timeline.totals, default=0)
    if highest == 0 or seconds <= 0:
        return []
    edges = [min(WIDTH * moment / seconds, WIDTH) for moment in timeline.moments] + [float(WIDTH)]
    found, floor = [], [0] * len(timeline.moments)
    for colour, (name, sizes) in enumerate(timeline.owners.items()):
        top = [below + size for below, size in zip(floor, sizes, strict=True)]
        corners = _stairs(edges, top, highest) + _stairs(edges, floor, highest)[::-1]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        found.append(Area(name, colour, max(sizes) / 2**20, points))
        floor = top
    return found


def curve_points(curve: Sequence[tuple[float, int]], seconds: float) -> str:
    """Return bytes over time as the points of an SVG line with steps, in a box of ``WIDTH`` and ``HEIGHT``.

    Args:
        curve: seconds and bytes, by time.
        seconds: what the width stands for.

    Returns:
        Points, "" where nothing was allocated.
    """
    sizes = [size for _, size in curve]
    low, high = min(0, *sizes, 0), max(0, *sizes, 0)
    if high == low or seconds <= 0:
        return ""
    places = [(WIDTH * moment / seconds, HEIGHT * (high - size) / (high - low)) for moment, size in curve]
    found = [places[0]]
    for before, (x, y) in pairwise(places):
        found += [(x, before[1]), (x, y)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in [*found, (float(WIDTH), found[-1][1])])


def _stairs(edges: Sequence[float], sizes: Sequence[int], highest: int) -> list[tuple[float, float]]:
    """Return the corners of a line that is level between one edge and the next."""
    levels = [HEIGHT * (1 - size / highest) for size in sizes]
    return [(x, y) for (left, right), y in zip(pairwise(edges), levels, strict=True) for x in (left, right)]
