"""Pictures of what was measured, by matplotlib."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from diffexplain_fast.measuring.bench.rows import Row

_MIB = 2**20


def picture(rows: Sequence[Row]) -> bytes:
    """Return a PNG: time against peak memory with each rival's name, and times with their 20 % and 80 % quantiles.

    Args:
        rows: measured rows of one group, at least one.
    """
    ordered = sorted(rows, key=lambda row: row["median_s"])
    figure = Figure(figsize=(14, 5), layout="constrained")
    scatter, bars = figure.subplots(1, 2)
    _scatter(scatter, ordered)
    _bars(bars, ordered)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=120)
    return target.getvalue()


def _colour(row: Row) -> str:
    return "tab:orange" if row["rival"].startswith("ours") else "tab:blue"


def _scatter(axis: Any, rows: Sequence[Row]) -> None:
    """Time against peak memory: the lower left is best."""
    for number, row in enumerate(sorted(rows, key=lambda row: row["peak_bytes"])):
        place = (1e3 * row["median_s"], row["peak_bytes"] / _MIB)
        axis.scatter(*place, color=_colour(row))
        # Above and below by turns, for neighbours in memory may lie beside one another.
        offset = (6, 6 if number % 2 else -12)
        axis.annotate(_plain(row["rival"]), place, xytext=offset, textcoords="offset points", fontsize=7)
    axis.set(xlabel="one iteration, ms", ylabel="peak memory, MiB", yscale="log")
    axis.margins(x=0.3, y=0.15)


def _bars(axis: Any, rows: Sequence[Row]) -> None:
    """Median times, with whiskers from the 20 % to the 80 % quantile."""
    for place, row in enumerate(rows):
        axis.barh(place, 1e3 * row["median_s"], color=_colour(row))
        axis.plot((1e3 * row["low_s"], 1e3 * row["high_s"]), (place, place), color="black", marker="|")
    axis.set_yticks(range(len(rows)), [_plain(row["rival"]) for row in rows], fontsize=7)
    axis.invert_yaxis()
    axis.set_xlabel("one iteration, ms: median, 20 % to 80 %")


def _plain(name: str) -> str:
    """A name that matplotlib does not read as mathematics."""
    return name.replace("$", r"\$")
