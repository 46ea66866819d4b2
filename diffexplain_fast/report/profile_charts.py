"""Charts of a profile as the points of SVG shapes."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from diffexplain_fast.measuring.profile.families import FAMILIES
from diffexplain_fast.measuring.profile.memory import Timeline
from diffexplain_fast.measuring.profile.roofline import Roofline, Work, attainable
from diffexplain_fast.report.plots import Tick

WIDTH, HEIGHT, ROOF_HEIGHT = 600, 120, 240
"""Boxes of the timeline and of the roofline, in their own units."""


class Area(NamedTuple):
    """A layer of a stacked chart."""

    name: str  # of the owner of these bytes
    colour: int  # number of its colour
    most: int  # bytes
    points: str  # corners of its shape


class Dot(NamedTuple):
    """A kind of work in the roofline."""

    x: float
    y: float
    colour: int  # number of its family's colour
    large: bool  # whether it is a family
    work: Work


class Roof(NamedTuple):
    """A roofline in a box, both axes in powers of ten."""

    points: str  # of the ceiling
    dots: list[Dot]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def areas(timeline: Timeline, seconds: float) -> list[Area]:
    """Return a layer for each owner of a timeline, the first at the bottom; none where nothing was counted.

    Args:
        timeline: what to show.
        seconds: length of time that the width stands for.
    """
    highest = max(timeline.totals, default=0)
    if highest == 0 or seconds <= 0:
        return []
    edges = [min(WIDTH * moment / seconds, WIDTH) for moment in timeline.moments] + [float(WIDTH)]
    layers, floor = [], [0] * len(timeline.moments)
    for colour, (name, sizes) in enumerate(timeline.owners.items()):
        top = [below + size for below, size in zip(floor, sizes, strict=True)]
        corners = _stairs(edges, top, highest) + _stairs(edges, floor, highest)[::-1]
        layers.append(Area(name, colour, max(sizes), _points(corners)))
        floor = top
    return layers


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

    def place(intensity: float, rate: float) -> tuple[float, float]:
        x = WIDTH * (math.log10(intensity) - across[0]) / (across[-1] - across[0])
        return round(x, 1), round(ROOF_HEIGHT * (up[-1] - math.log10(rate)) / (up[-1] - up[0]), 1)

    # Where the slope leaves the box at the bottom, the line begins there.
    first = max(10.0 ** across[0], 10.0 ** up[0] / ceilings.byte_rate)
    return Roof(
        _points(place(at, attainable(ceilings, at)) for at in (first, ridge, 10.0 ** across[-1])),
        [Dot(*place(*where), FAMILIES.index(work.kind), large, work) for work, where, large in shown],
        [Tick(place(10.0**power, 1.0)[0], f"{10.0**power:g}") for power in across],
        [Tick(place(1.0, 10.0**power)[1], f"{10.0 ** (power - 9):g}") for power in up],
    )


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
