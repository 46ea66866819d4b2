"""What was measured, as Markdown; and whether two runs agree."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

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


class _Column(NamedTuple):
    """A column: its title and how a row's figure is written."""

    title: str
    key: str
    text: Callable[[float], str]


_COLUMNS = (
    _Column("median", "median_s", lambda value: f"{1e3 * value:.0f} ms"),
    _Column("20 %", "low_s", lambda value: f"{1e3 * value:.0f} ms"),
    _Column("80 %", "high_s", lambda value: f"{1e3 * value:.0f} ms"),
    _Column("times ours", "times_ours", lambda value: f"{value:.2f}"),
    _Column("first result", "first_s", lambda value: f"{value:.1f} s"),
    _Column("peak", "peak_bytes", lambda value: f"{value / _MIB:.1f} MiB"),
    _Column("reserved", "reserved_bytes", lambda value: f"{value / _MIB:.0f} MiB"),
    _Column("resident", "resident_bytes", lambda value: f"{value / _MIB:.0f} MiB"),
    _Column("left", "left_bytes", lambda value: f"{value / _GIB:.1f} GiB"),
    _Column("of ceiling", "share_of_ceiling", lambda value: f"{100 * value:.0f} %"),
    _Column("energy", "joules", lambda value: f"{value:.1f} J"),
    _Column("gradient", "gradient_distance", lambda value: f"{value:.1e}"),
)


def escaped(text: object) -> str:
    """Return a text as one cell of a Markdown table shows it, whatever it is."""
    line = " ".join(str(text).split())
    for mark in ("\\", "|", "*", "_", "`", "[", "]", "<", ">"):
        line = line.replace(mark, f"\\{mark}")
    return line


def table(rows: Mapping[str, Row]) -> str:
    """Return a Markdown table of the rows that were measured, fastest first, and the reasons of the refused below it.

    Args:
        rows: by rival; a column that none has a figure for is left out.
    """
    measured = sorted((row for row in rows.values() if "refused" not in row), key=lambda row: row["median_s"])
    columns = [column for column in _COLUMNS if any(row.get(column.key) is not None for row in measured)]
    lines = []
    if measured:
        lines += [_line("rival", *(column.title for column in columns)), _line("---", *["---:"] * len(columns))]
    for row in measured:
        figures = [row.get(column.key) for column in columns]
        cells = ["-" if value is None else column.text(value) for column, value in zip(columns, figures, strict=True)]
        other = (row.get("gradient_distance") or 0) > AGREEMENT
        lines.append(_line(escaped(row["rival"]) + " (another gradient)" * other, *cells))
    refused = [row for row in rows.values() if "refused" in row]
    if refused:
        lines += ["", "Refused, and so without figures:", ""]
        lines += [f"- {escaped(row['rival'])}: {escaped(row['refused'])}" for row in refused]
    return "\n".join(lines)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def conditions(rows: Iterable[Row]) -> list[str]:
    """Return, for each run that rows are of, a line with what was measured, when, and by which commit and versions.

    Args:
        rows: of one group.
    """
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
        lines += [
            "",
            f"## {escaped(group.workload)}, {escaped(group.dtype)}, {escaped(group.device)}",
            "",
            table(found),
        ]
        if said := conditions(found.values()):
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
        from diffexplain_fast.measuring.bench.plots import picture
    except ImportError:
        return {}, "No pictures: matplotlib is not installed. pip install 'diffexplain-fast[plot]' brings it."
    drawn = {
        number: [row for row in found.values() if "refused" not in row]
        for number, found in enumerate(groups.values(), start=1)
    }
    return {number: picture(rows) for number, rows in drawn.items() if rows}, None


class Agreement(NamedTuple):
    """How far the last two runs of a group agree.

    Attributes:
        group: of what.
        runs: when the two began.
        ratios: by rival, its time over ours in both runs; None where a run has no figure.
        differing: rivals whose ratios differ by more than is allowed, or that a run has no figure for.
        missing: by such a rival, the runs without its figure; one that was refused wherever it ran lacks none.
    """

    group: Group
    runs: tuple[str, str]
    ratios: dict[str, tuple[float | None, float | None]]
    differing: list[str]
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
        last = list(every.items())[-2:]
        names = list(dict.fromkeys(name for _, rivals in last for name in rivals))
        ratios, missing = {}, {}
        for name in names:
            first, second = (figure(rivals.get(name, {}), _RATIO) for _, rivals in last)
            ratios[name] = first, second
            told = [rivals[name] for _, rivals in last if name in rivals]
            if None in ratios[name] and not all("refused" in row for row in told):
                missing[name] = [run for (run, _), ratio in zip(last, ratios[name], strict=True) if ratio is None]
        differing = [name for name, pair in ratios.items() if name in missing or _differ(*pair, within)]
        found.append(Agreement(group, (last[0][0], last[1][0]), ratios, differing, missing))
    if not found:
        raise wrong_value("file", "two runs of one workload, dtype and device", "at most one of each")
    return found


def _differ(before: float | None, after: float | None, within: float) -> bool:
    if before is None or after is None:
        return False
    return max(before, after) > (1 + within) * min(before, after)
