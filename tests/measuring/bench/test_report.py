"""Reports say what rows say, of the latest row of each rival; two runs are compared ratio by ratio."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from diffexplain_fast.cli.main import app
from diffexplain_fast.errors import CorruptFileError, StorageError
from diffexplain_fast.measuring.bench.report import agreements, escaped, table, write_report
from diffexplain_fast.measuring.bench.rows import append_rows, group_of, latest, read_rows

ROOT = Path(__file__).parents[3]
MIB = 2**20


def row(rival: str, times_ours: float = 1.0, **others: Any) -> dict[str, Any]:
    """Return a made-up row of a GPU."""
    known = {
        "date": "2026-01-02",
        "run": "2026-01-02T03:04:05+00:00",
        "commit": "abc1234",
        "workload": "sd15",
        "dtype": "bfloat16",
        "device": {"cpu": "Chip", "threads": 8, "cuda": ["Card"], "name": "Card"},
        "versions": {"torch": "2.13.0", "triton": None},
        "steps": 20,
        "flop": 40e12,
        "ceiling_flop_s": 5e14,
        "gpu": {"driver": "580.1", "sm_mhz": 1980.0, "power_limit_w": None},
        "rival": rival,
        "gradient_distance": 1e-5,
        "first_s": 3.0,
        "median_s": 0.5 * times_ours,
        "low_s": 0.45 * times_ours,
        "high_s": 0.6 * times_ours,
        "times_ours": times_ours,
        "rounds": 9,
        "peak_bytes": 2048 * MIB,
        "reserved_bytes": 3000 * MIB,
        "left_bytes": 2**30,
        "resident_bytes": None,
        "joules": None,
        "share_of_ceiling": 0.16,
    }
    return known | others


def refused(rival: str, reason: str, **others: Any) -> dict[str, Any]:
    """Return a made-up row without figures."""
    made = row(rival, **others)
    kept = ("date", "run", "commit", "workload", "dtype", "device", "versions", "rival")
    return {name: made[name] for name in kept} | {"gradient_distance": None, "refused": reason}


def report(folder: Path, rows: list[dict[str, Any]]) -> str:
    """Return the report of a file with these rows, made by the command."""
    append_rows(folder / "rows.jsonl", rows)
    done = CliRunner().invoke(app, ["bench", "report", str(folder / "rows.jsonl"), "--out", str(folder / "out")])
    assert done.exit_code == 0, done.output
    assert f"Open {folder / 'out' / 'report.md'}" in done.output
    return (folder / "out" / "report.md").read_text(encoding="utf-8")


def test_it_shows_the_latest_row_of_each_rival_fastest_first(tmp_path: Path) -> None:
    rows = [
        row("slow", 9.0),
        row("ours, everything kept"),
        row("slow", 2.0),
        row("fast", 0.5, joules=12.0, gradient_distance=0.02),
    ]
    text = report(tmp_path, rows)
    assert "## sd15, bfloat16, Card" in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| fast (another gradient)",
        "| ours, everything kept",
        "| slow",
    ]
    assert "1000 ms | 900 ms | 1200 ms | 2.00 | 3.0 s | 2048.0 MiB | 3000 MiB | 1.0 GiB | 16 % | - | 1.0e-05 |" in text
    assert "resident |" not in lines[0] and "12.0 J" in lines[2]
    assert "2026-01-02, commit abc1234, steps 20, rounds 9, 40 TFLOP an iteration, ceiling 500 TFLOP/s" in text
    assert "driver 580.1, sm mhz 1980.0, torch 2.13.0" in text.replace("\\_", " ")


def test_each_workload_dtype_and_device_has_its_own_table_and_picture(tmp_path: Path) -> None:
    old = {"cpu": "Chip", "threads": 2, "cuda": []}  # before rows named their device
    rows = [row("fast"), row("fast", dtype="float32"), row("fast", workload="sdxl-4"), row("fast", device=old)]
    text = report(tmp_path, rows)
    titles = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    wanted = [
        "sd15, bfloat16, Card",
        "sd15, float32, Card",
        "sdxl-4, bfloat16, Card",
        "sd15, bfloat16, Chip, 2 threads",
    ]
    assert titles == wanted
    for number in range(1, 5):
        assert f"](iteration-{number}.png)" in text
        with Image.open(tmp_path / "out" / f"iteration-{number}.png") as picture:
            assert picture.format == "PNG" and picture.width > 500


def test_refused_rows_stand_below_with_their_reason(tmp_path: Path) -> None:
    text = report(tmp_path, [row("ours, everything kept"), row("gone"), refused("gone", "OutOfMemoryError: no room")])
    assert "- gone: OutOfMemoryError: no room" in text and "| gone" not in text
    only = report(tmp_path / "only", [refused("gone", "no room")])
    assert "- gone: no room" in only and "| rival" not in only and ".png" not in only


def test_what_would_break_a_table_is_escaped(tmp_path: Path) -> None:
    name = "a|b *c* `d`\n| $x$ <e>"
    assert escaped(name) == r"a\|b \*c\* \`d\` \| $x$ \<e\>"
    text = report(tmp_path, [row(name), refused("g|h", "k|l\n## m")])
    assert rf"| {escaped(name)} |" in text and r"- g\|h: k\|l ## m" in text
    head, line = (next(line for line in text.splitlines() if word in line) for word in ("| rival", "| a"))
    assert line.replace("\\|", "").count("|") == head.count("|")


def test_without_matplotlib_the_tables_say_how_to_get_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "diffexplain_fast.measuring.bench.plots", raising=False)
    text = report(tmp_path, [row("fast")])
    assert "| fast |" in text and "pip install 'diffexplain-fast[plot]'" in text and ".png" not in text


def test_old_rows_without_new_measures_are_still_shown() -> None:
    rows = read_rows(ROOT / "benchmarks" / "results" / "iteration-cpu.jsonl")
    for group, found in latest(rows).items():
        assert "| plain autograd |" in table(found) and group.workload and group.device


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_rows(path, [row("fast")])
    with path.open("a") as file:
        file.write('\n{"rival": "cut')
    with pytest.raises(CorruptFileError, match="line 3: wanted a row as JSON"):
        read_rows(path)
    path.write_text('["rival"]\n')
    with pytest.raises(CorruptFileError, match="line 1: wanted a row with rival, workload, dtype, device"):
        read_rows(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CorruptFileError, match="line 1: wanted a row as JSON"):
        read_rows(path)
    for argument, *command in (["file", "report"], ["file", "agree"], ["--rows", "estimate", "--rows"]):
        for place, why in ((tmp_path / "none.jsonl", "No such file"), (tmp_path, "Is a directory")):
            done = CliRunner().invoke(app, ["bench", *command, str(place)])
            assert done.exit_code == 2 and f"{argument}: wanted a file of JSON lines" in done.output
            assert f"got {place}: {why}" in done.output
    with pytest.raises(ValueError, match="at least one row"):
        write_report([], tmp_path)
    with pytest.raises(StorageError, match="space and permission"):
        append_rows(path / "below a file", [row("fast")])
    with pytest.raises(ValueError, match="JSON"):
        append_rows(path, [row("fast", median_s=float("nan"))])


def runs(*ratios: dict[str, float | None], **others: Any) -> list[dict[str, Any]]:
    """Return the rows of one run after the other, with these ratios; None is refused."""
    return [
        refused(name, "no room", run=str(number), **others)
        if ratio is None
        else row(name, ratio, run=str(number), **others)
        for number, each in enumerate(ratios)
        for name, ratio in each.items()
    ]


def test_the_last_two_runs_are_compared_ratio_by_ratio() -> None:
    rows = runs(
        {"plain": 9.0, "near": 1.0},
        {"plain": 2.0, "near": 1.0, "lost": 1.0, "never": None},
        {"plain": 1.7, "near": 1.09, "lost": None, "never": None, "new": 1.0},
    )
    (found,) = agreements([*rows, row("plain", 5.0, workload="sdxl-4")])
    assert found.group == group_of(rows[0]) and found.runs == ("1", "2")
    assert found.differing == ["plain", "lost", "new"] and found.ratios["plain"] == (2.0, 1.7)
    assert agreements(rows, within=0.2)[0].differing == ["lost", "new"]


NO_RATIO = (math.nan, math.inf, -math.inf, 0.0, -1.0, "2.0", True, None)


@pytest.mark.parametrize("ratio", NO_RATIO)
def test_what_is_no_ratio_agrees_with_nothing(ratio: Any, tmp_path: Path) -> None:
    path, rows = tmp_path / "rows.jsonl", runs({"plain": 2.0, "near": 1.0}, {"plain": 2.0, "near": 1.0})
    rows[0]["times_ours"] = rows[2]["times_ours"] = ratio
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    done = CliRunner().invoke(app, ["bench", "agree", str(path)])
    assert done.exit_code == 1 and "\nplain: no times_ours in 0 and 1\n" in done.output
    assert done.output.count("differs") == 1 and "nan" not in done.output


def test_a_ratio_that_one_run_lacks_is_named() -> None:
    rows = runs({"plain": 2.0, "lost": 1.0, "never": None}, {"plain": 2.0, "lost": None})
    del rows[-2]["times_ours"]
    (found,) = agreements(rows)
    assert found.missing == {"plain": ["1"], "lost": ["1"]} and found.differing == ["plain", "lost"]


@pytest.mark.parametrize("within", ["nan", "inf", "-0.1"])
def test_a_share_that_allows_anything_is_refused(within: str, tmp_path: Path) -> None:
    append_rows(tmp_path / "rows.jsonl", runs({"plain": 2.0}, {"plain": 1.0}))
    done = CliRunner().invoke(app, ["bench", "agree", str(tmp_path / "rows.jsonl"), "--within", within])
    assert done.exit_code == 2 and "within: wanted a finite share" in done.output


def test_one_run_agrees_with_nothing() -> None:
    old = row("plain")
    del old["run"]
    with pytest.raises(ValueError, match="two runs of one workload, dtype and device"):
        agreements([old, row("plain", 2.0), row("plain", 2.0, run="other", dtype="float32")])


def test_the_command_names_what_differs_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_rows(path, runs({"plain": 2.0, "near": 1.0}, {"plain": 1.5, "near": 1.05}))
    done = CliRunner().invoke(app, ["bench", "agree", str(path)])
    line = next(line for line in done.output.splitlines() if line.startswith("plain"))
    assert done.exit_code == 1 and line.split() == ["plain", "2.00", "1.50", "differs"]
    assert done.output.count("differs") == 1
    append_rows(path, runs({}, {}, {"plain": 1.5, "near": 1.05}))
    assert CliRunner().invoke(app, ["bench", "agree", str(path)]).exit_code == 0
    path.write_text(json.dumps(row("plain")) + "\n")
    assert CliRunner().invoke(app, ["bench", "agree", str(path)]).exit_code == 2
