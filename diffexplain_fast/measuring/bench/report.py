"""The rows that were measured, as Markdown with pictures; and whether two runs agree."""

import io
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.measuring.bench.gate import AGREEMENT
from diffexplain_fast.measuring.bench.rows import Group, Row, figure, group_of, latest
from diffexplain_fast.storage import write_bytes_atomic

REPORT = "report.md"
WITHIN = 0.1  # share by which two runs' ratios may differ
_MIB = 2**20
_TEXTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def escaped(text: object) -> str:
    """Return any text as one cell of a Markdown table shows it."""
    line = " ".join(str(text).split())
    for mark in ("\\", "|", "*", "_", "`", "[", "]", "<", ">"):
        line = line.replace(mark, f"\\{mark}")
    return line


def table(rows: Mapping[str, Row]) -> str:
    """Return a Markdown table of the measured rows, fastest first, and below it why others were refused."""
    measured = sorted((row for row in rows.values() if "refused" not in row), key=lambda row: row["median_s"])
    # A column that no row has a figure for is left out.
    columns = {
        key: column for key, column in _TEXTS["columns"].items() if any(row.get(key) is not None for row in measured)
    }
    lines = []
    if measured:
        lines += [_line("rival", *(title for title, *_ in columns.values())), _line("---", *["---:"] * len(columns))]
    for row in measured:
        figures = [(row.get(key), form, factor) for key, (_, form, factor) in columns.items()]
        cells = ["-" if value is None else form.format(factor * value) for value, form, factor in figures]
        other = (row.get("gradient_distance") or 0) > AGREEMENT
        lines.append(_line(escaped(row["rival"]) + " (another gradient)" * other, *cells))
    if refused := [row for row in rows.values() if "refused" in row]:
        lines += ["", "Refused, and so without figures:", ""]
        lines += [f"- {escaped(row['rival'])}: {escaped(row['refused'])}" for row in refused]
    return "\n".join(lines)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _conditions(rows: Iterable[Row]) -> list[str]:
    """A line for each run that rows are of: its options, when it was, and by which commit and versions."""
    lines: dict[str, None] = {}
    for row in rows:
        known = {name: row.get(name) for name in ("steps", "guidance_scale", "batch", "rounds")}
        parts = [f"{name.replace('_', ' ')} {value:g}" for name, value in known.items() if value is not None]
        for key, form in {"flop": "{:.3g} TFLOP an iteration", "ceiling_flop_s": "ceiling {:.3g} TFLOP/s"}.items():
            parts += [] if row.get(key) is None else [form.format(row[key] / 1e12)]
        told = (row.get("gpu") or {}).items()
        parts += [f"{name.replace('_', ' ')} {value}" for name, value in told if value is not None]
        versions = row.get("versions") or {}
        parts += [f"{name} {versions[name]}" for name in ("torch", "diffusers", "triton") if versions.get(name)]
        head = f"{row.get('date')}, commit {row.get('commit') or 'unknown'}"
        if "refused" not in row:
            lines[f"- {escaped(', '.join([head, *parts]))}"] = None
    return list(lines)


def write_report(rows: Iterable[Row], out: str | Path) -> Path:
    """Write a Markdown report of the latest row of each rival, a table and a picture for each group.

    Args:
        rows: at least one, in the order in which they were appended.
        out: folder, which is made if there is none.

    Returns:
        The Markdown file; its pictures lie beside it. Without matplotlib there are none, and it says why.
    """
    groups = latest(rows)
    if not groups:
        raise wrong_value("file", "at least one row", "none")
    out, lines, draws = (
        Path(out),
        ["# One optimisation iteration, ours beside what people do today", "", _TEXTS["notes"].strip()],
        True,
    )
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        draws = False
        lines += ["", "No pictures: matplotlib is not installed. pip install 'diffexplain-fast[plot]' brings it."]
    for number, (group, of_rivals) in enumerate(groups.items(), start=1):
        lines += ["", f"## {', '.join(map(escaped, group))}", "", table(of_rivals)]
        if said := _conditions(of_rivals.values()):
            lines += ["", *said]
        measured = [row for row in of_rivals.values() if "refused" not in row]
        if measured and draws:
            name = f"iteration-{number}.png"
            write_bytes_atomic(out / name, _picture(measured))
            lines += ["", f"![time and peak memory]({name})"]
    write_bytes_atomic(out / REPORT, ("\n".join(lines) + "\n").encode())
    return out / REPORT


def _picture(rows: Sequence[Row]) -> bytes:
    """A PNG: time, with its 20 % and 80 % quantiles, against peak memory, and each rival's name."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(9, 6), layout="constrained")
    axes = drawing.subplots()
    for number, row in enumerate(sorted(rows, key=lambda row: row["peak_bytes"])):
        low, median, high = (1e3 * row[key] for key in ("low_s", "median_s", "high_s"))
        peak = row["peak_bytes"] / _MIB
        colour = "tab:orange" if row["rival"].startswith("ours") else "tab:blue"
        axes.plot((low, high), (peak, peak), color=colour, marker="|")
        axes.scatter(median, peak, color=colour)
        # Above and below by turns, because neighbours in memory may lie beside one another.
        offset, name = (6, 6 if number % 2 else -12), row["rival"].replace("$", r"\$")  # no mathematics to matplotlib
        axes.annotate(name, (median, peak), xytext=offset, textcoords="offset points", fontsize=7)
    axes.set(xlabel="one iteration, ms: median, 20 % to 80 %", ylabel="peak memory, MiB", yscale="log")
    axes.margins(x=0.3, y=0.15)
    target = io.BytesIO()
    drawing.savefig(target, format="png", dpi=120)
    return target.getvalue()


class Agreement(NamedTuple):
    """How far the last two runs of a group agree."""

    group: Group  # of what
    runs: tuple[str, str]  # when the two began
    ratios: dict[str, tuple[float | None, float | None]]  # by rival, its time over ours in both; None without figure
    differing: list[str]  # rivals whose ratios differ by more than is allowed, or that a run has no figure for
    # by such a rival, the runs without its figure; one that was refused wherever it ran lacks none
    missing: dict[str, list[str]]


def agreements(rows: Iterable[Row], within: float = WITHIN) -> list[Agreement]:
    """Compare the ratios of the last two runs of every group that has two; without such a group it is a ValueError.

    Args:
        rows: in the order in which they were appended; those that do not name their run are left out.
        within: finite share by which the larger ratio may exceed the smaller.
    """
    if not 0 <= within < math.inf:
        raise wrong_value("within", "a finite share of at least 0", within)
    runs: dict[Group, dict[str, dict[str, Row]]] = {}
    for row in rows:
        if "run" in row:
            runs.setdefault(group_of(row), {}).setdefault(row["run"], {})[row["rival"]] = row
    last = {group: list(every.items())[-2:] for group, every in runs.items() if len(every) >= 2}
    if not last:
        raise wrong_value("file", "two runs of one workload, dtype and device", "at most one of each")
    return [_agreement(group, before, after, within) for group, (before, after) in last.items()]


def _agreement(
    group: Group, before: tuple[str, dict[str, Row]], after: tuple[str, dict[str, Row]], within: float
) -> Agreement:
    runs, both = (before[0], after[0]), (before[1], after[1])
    agreement = Agreement(group, runs, {}, [], {})
    for name in both[0] | both[1]:
        first, second = pair = tuple(figure(rivals.get(name, {}), "times_ours") for rivals in both)
        agreement.ratios[name] = first, second
        if first is not None and second is not None:
            differs = max(first, second) > (1 + within) * min(first, second)
        elif differs := not all("refused" in rivals[name] for rivals in both if name in rivals):
            agreement.missing[name] = [run for run, ratio in zip(runs, pair, strict=True) if ratio is None]
        if differs:
            agreement.differing.append(name)
    return agreement
