"""Charts of a profile as the points of SVG shapes."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from diffexplain_fast.measuring.profile.families import FAMILIES
from diffexplain_fast.measuring.profile.memory import Timeline
from diffexplain_fast.measuring.profile.roofline import Roofline, Work, attainable
from diffexplain_fast.report.plots import Tick

WIDTH, HEIGHT, ROOF_HEIGHT = 600, 120, 240
"""Boxes of the curves and of the roofline, in their own units."""


class Area(NamedTuple):
    """A layer of a stacked chart: whose bytes, number of its colour, the most of it in MiB, corners of its shape."""

    name: str
    colour: int
    most: float
    points: str


class Dot(NamedTuple):
    """A kind of work in the roofline: its place, number of its family's colour, whether a family, what it says."""

    x: float
    y: float
    colour: int
    large: bool
    text: str


class Roof(NamedTuple):
    """A roofline in a box, both axes in powers of ten: points of the ceiling, kinds of work, ticks of both axes."""

    points: str
    dots: list[Dot]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def areas(timeline: Timeline, seconds: float) -> list[Area]:
    """Return a layer for each owner of a timeline, the first at the bottom; none where nothing was counted.

    Args:
        timeline: what to show.
        seconds: what the width stands for.
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
    """Return the points of an SVG line with steps, in a box of ``WIDTH`` and ``HEIGHT``; "" if nothing was allocated.

    Args:
        curve: seconds and bytes, by time.
        seconds: what the width stands for.
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


def roof(roofline: Roofline) -> Roof | None:
    """Return the chart of FLOP/s over FLOP per byte of the work that has FLOP, None where no work has."""
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

    def x(intensity: float) -> float:
        return WIDTH * (math.log10(intensity) - across[0]) / (across[-1] - across[0])

    def y(rate: float) -> float:
        return ROOF_HEIGHT * (up[-1] - math.log10(rate)) / (up[-1] - up[0])

    # Where the slope leaves the box at the bottom, the line begins there.
    first = max(10.0 ** across[0], 10.0 ** up[0] / ceilings.byte_rate)
    corners = [(at, attainable(ceilings, at)) for at in (first, ridge, 10.0 ** across[-1])]
    return Roof(
        " ".join(f"{x(at):.1f},{y(rate):.1f}" for at, rate in corners),
        [
            Dot(round(x(at), 1), round(y(rate), 1), FAMILIES.index(work.kind), large, describe(work))
            for work, (at, rate), large in shown
        ],
        [Tick(round(x(10.0**power), 1), f"{10.0**power:g}") for power in across],
        [Tick(round(y(10.0**power), 1), f"{10.0 ** (power - 9):g}") for power in up],
    )


def describe(work: Work) -> str:
    """Return what a kind of work reached, in one line."""
    if work.share is None:
        return f"{work.name}: not counted"
    rate = f"{1e-9 * work.moved / work.seconds:.1f} GB/s"
    if work.flop is not None:
        rate = f"{1e-9 * work.flop / work.seconds:.1f} GFLOP/s, {rate}"
    return f"{work.name}: {rate}, {work.share:.0%} of the ceiling"


def _powers(values: Sequence[float]) -> range:
    """Return the powers of ten from below the least of some values to above the most."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return range(low, max(high, low + 1) + 1)


def _stairs(edges: Sequence[float], sizes: Sequence[int], highest: int) -> list[tuple[float, float]]:
    """Return the corners of a line that is level between one edge and the next."""
    levels = [HEIGHT * (1 - size / highest) for size in sizes]
    return [(x, y) for (left, right), y in zip(pairwise(edges), levels, strict=True) for x in (left, right)]
