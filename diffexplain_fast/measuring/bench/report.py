"""What was measured, as Markdown with pictures; and whether two runs agree."""

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.measuring.bench.gate import AGREEMENT
from diffexplain_fast.measuring.bench.rows import Group, Row, figure, group_of, latest
from diffexplain_fast.storage import write_bytes_atomic

REPORT = "report.md"
_RATIO = "times_ours"
WITHIN = 0.1
"""Share by which two runs' ratios may differ."""
_MIB, _GIB = 2**20, 2**30
_NOTES = """\
Time is the median of one optimisation iteration, with the 20 % and 80 % quantiles of the rounds; ratios are taken
within a round. Peak is the most bytes of tensors alive at once, weights included on a GPU only; reserved is what
torch took from the driver, resident how far the process grew on a CPU, left what the card had left then. The
ceiling is what a large matrix product reaches on the device; the share counts the work of plain autograd, not what
is computed again. The gradient column is the relative L2 distance to plain autograd's in float32. A dash is not
measured."""
_Text = Callable[[float], str]


def _scaled(pattern: str, factor: float = 1.0) -> _Text:
    return lambda value: pattern.format(factor * value)


_COLUMNS: dict[str, tuple[str, _Text]] = {
    "median_s": ("median", _scaled("{:.0f} ms", 1e3)),
    "low_s": ("20 %", _scaled("{:.0f} ms", 1e3)),
    "high_s": ("80 %", _scaled("{:.0f} ms", 1e3)),
    "times_ours": ("times ours", _scaled("{:.2f}")),
    "first_s": ("first result", _scaled("{:.1f} s")),
    "peak_bytes": ("peak", _scaled("{:.1f} MiB", 1 / _MIB)),
    "reserved_bytes": ("reserved", _scaled("{:.0f} MiB", 1 / _MIB)),
    "resident_bytes": ("resident", _scaled("{:.0f} MiB", 1 / _MIB)),
    "left_bytes": ("left", _scaled("{:.1f} GiB", 1 / _GIB)),
    "share_of_ceiling": ("of ceiling", _scaled("{:.0f} %", 100)),
    "joules": ("energy", _scaled("{:.1f} J")),
    "gradient_distance": ("gradient", _scaled("{:.1e}")),
}
"""By a row's key, a column's title and how the figure is written."""


def escaped(text: object) -> str:
    """Return a text as one cell of a Markdown table shows it, whatever it is."""
    line = " ".join(str(text).split())
    for mark in ("\\", "|", "*", "_", "`", "[", "]", "<", ">"):
        line = line.replace(mark, f"\\{mark}")
    return line


def table(rows: Mapping[str, Row]) -> str:
    """Return a Markdown table of the measured rows, fastest first, and below it why others were refused."""
    measured = sorted((row for row in rows.values() if "refused" not in row), key=lambda row: row["median_s"])
    # A column that no row has a figure for is left out.
    columns = {key: _COLUMNS[key] for key in _COLUMNS if any(row.get(key) is not None for row in measured)}
    lines = []
    if measured:
        lines += [_line("rival", *(title for title, _ in columns.values())), _line("---", *["---:"] * len(columns))]
    for row in measured:
        cells = ["-" if row.get(key) is None else text(row[key]) for key, (_, text) in columns.items()]
        other = (row.get("gradient_distance") or 0) > AGREEMENT
        lines.append(_line(escaped(row["rival"]) + " (another gradient)" * other, *cells))
    if refused := [row for row in rows.values() if "refused" in row]:
        lines += ["", "Refused, and so without figures:", ""]
        lines += [f"- {escaped(row['rival'])}: {escaped(row['refused'])}" for row in refused]
    return "\n".join(lines)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _conditions(rows: Iterable[Row]) -> list[str]:
    """A line for each run that rows are of: what was measured, when, and by which commit and versions."""
    found: dict[str, None] = {}
    for row in rows:
        known = {name: row.get(name) for name in ("steps", "guidance_scale", "batch", "rounds")}
        parts = [f"{name.replace('_', ' ')} {value:g}" for name, value in known.items() if value is not None]
        if row.get("flop") is not None:
            parts.append(f"{row['flop'] / 1e12:.3g} TFLOP an iteration")
        if row.get("ceiling_flop_s") is not None:
            parts.append(f"ceiling {row['ceiling_flop_s'] / 1e12:.3g} TFLOP/s")
        told = (row.get("gpu") or {}).items()
        parts += [f"{name.replace('_', ' ')} {value}" for name, value in told if value is not None]
        versions = row.get("versions") or {}
        parts += [f"{name} {versions[name]}" for name in ("torch", "diffusers", "triton") if versions.get(name)]
        head = f"{row.get('date')}, commit {row.get('commit') or 'unknown'}"
        if "refused" not in row:
            found[f"- {escaped(', '.join([head, *parts]))}"] = None
    return list(found)


def write_report(rows: Iterable[Row], out: str | Path) -> Path:
    """Write a Markdown report of the latest row of each rival, a table and a picture for each group.

    Args:
        rows: in the order in which they were appended.
        out: folder, which is made if there is none.

    Returns:
        The Markdown file; its pictures lie beside it. Without matplotlib there are none, and it says why.

    Raises:
        ValueError: there are no rows.
        StorageError: the folder cannot be written.
    """
    groups = latest(rows)
    if not groups:
        raise wrong_value("file", "at least one row", "none")
    out, lines = Path(out), ["# One optimisation iteration, ours beside what people do today", "", _NOTES]
    pictures, missing = _pictures(groups)
    lines += ["", missing] if missing else []
    for number, (group, found) in enumerate(groups.items(), start=1):
        lines += ["", f"## {', '.join(map(escaped, group))}", "", table(found)]
        if said := _conditions(found.values()):
            lines += ["", *said]
        if number in pictures:
            name = f"iteration-{number}.png"
            write_bytes_atomic(out / name, pictures[number])
            lines += ["", f"![time and peak memory]({name})"]
    write_bytes_atomic(out / REPORT, ("\n".join(lines) + "\n").encode())
    return out / REPORT


def _pictures(groups: Mapping[Group, Mapping[str, Row]]) -> tuple[dict[int, bytes], str | None]:
    """The picture of each group that has figures, by its number; or why there are none."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return {}, "No pictures: matplotlib is not installed. pip install 'diffexplain-fast[plot]' brings it."
    drawn = {
        number: [row for row in found.values() if "refused" not in row]
        for number, found in enumerate(groups.values(), start=1)
    }
    return {number: _picture(rows) for number, rows in drawn.items() if rows}, None


def _picture(rows: Sequence[Row]) -> bytes:
    """A PNG: time against peak memory with each rival's name, and times with their 20 % and 80 % quantiles."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(14, 5), layout="constrained")
    scatter, bars = drawing.subplots(1, 2)
    for number, row in enumerate(sorted(rows, key=lambda row: row["peak_bytes"])):
        place = (1e3 * row["median_s"], row["peak_bytes"] / _MIB)
        scatter.scatter(*place, color=_colour(row))
        # Above and below by turns, because neighbours in memory may lie beside one another.
        offset = (6, 6 if number % 2 else -12)
        scatter.annotate(_name(row), place, xytext=offset, textcoords="offset points", fontsize=7)
    scatter.set(xlabel="one iteration, ms", ylabel="peak memory, MiB", yscale="log")
    scatter.margins(x=0.3, y=0.15)
    ordered = sorted(rows, key=lambda row: row["median_s"])
    for height, row in enumerate(ordered):
        bars.barh(height, 1e3 * row["median_s"], color=_colour(row))
        bars.plot((1e3 * row["low_s"], 1e3 * row["high_s"]), (height, height), color="black", marker="|")
    bars.set_yticks(range(len(ordered)), [_name(row) for row in ordered], fontsize=7)
    bars.invert_yaxis()
    bars.set_xlabel("one iteration, ms: median, 20 % to 80 %")
    target = io.BytesIO()
    drawing.savefig(target, format="png", dpi=120)
    return target.getvalue()


def _colour(row: Row) -> str:
    return "tab:orange" if row["rival"].startswith("ours") else "tab:blue"


def _name(row: Row) -> Any:
    """A rival's name, which matplotlib does not read as mathematics."""
    return row["rival"].replace("$", r"\$")


class Agreement(NamedTuple):
    """How far the last two runs of a group agree."""

    group: Group  # of what
    runs: tuple[str, str]  # when the two began
    ratios: dict[str, tuple[float | None, float | None]]  # by rival, its time over ours in both; None without figure
    differing: list[str]  # rivals whose ratios differ by more than is allowed, or that a run has no figure for
    # by such a rival, the runs without its figure; one that was refused wherever it ran lacks none
    missing: dict[str, list[str]]


def agreements(rows: Iterable[Row], within: float = WITHIN) -> list[Agreement]:
    """Compare the ratios of the last two runs of every group that has two.

    Args:
        rows: in the order in which they were appended; those that do not name their run are left out.
        within: share by which the larger ratio may exceed the smaller; finite.

    Raises:
        ValueError: no group has two runs, or no such share.
    """
    if not 0 <= within < math.inf:
        raise wrong_value("within", "a finite share of at least 0", within)
    runs: dict[Group, dict[str, dict[str, Row]]] = {}
    for row in rows:
        if "run" in row:
            runs.setdefault(group_of(row), {}).setdefault(row["run"], {})[row["rival"]] = row
    found = []
    for group, every in runs.items():
        if len(every) < 2:
            continue
        (before, first), (after, second) = list(every.items())[-2:]
        ratios: dict[str, tuple[float | None, float | None]] = {}
        missing: dict[str, list[str]] = {}
        for name in {**first, **second}:
            pair = ratios[name] = figure(first.get(name, {}), _RATIO), figure(second.get(name, {}), _RATIO)
            told = [rivals[name] for rivals in (first, second) if name in rivals]
            if None in pair and not all("refused" in row for row in told):
                missing[name] = [run for run, ratio in zip((before, after), pair, strict=True) if ratio is None]
        differing = [name for name, pair in ratios.items() if name in missing or _differ(*pair, within)]
        found.append(Agreement(group, (before, after), ratios, differing, missing))
    if not found:
        raise wrong_value("file", "two runs of one workload, dtype and device", "at most one of each")
    return found


def _differ(before: float | None, after: float | None, within: float) -> bool:
    if before is None or after is None:
        return False
    return max(before, after) > (1 + within) * min(before, after)
