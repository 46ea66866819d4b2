"""The script of a first hour on a GPU, on a machine without one: it says so, rehearses, and survives signals."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu_session.sh"
WRITER = """\
    #!{python} -SE
    # In place of Python, where what is tested is the script: appends a row every few milliseconds, or fails.
    import os, pathlib, sys, time
    if "benchmarks.gpu_ops" in sys.argv:
        sys.exit("\\n no such op \\n")
    out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
    for number in range(rows := 5 if "profile" in sys.argv else 150):
        with out.open("a") as file:
            file.write('{{"row": %d}}\\n' % number)
        time.sleep(0.01)
"""


@pytest.fixture
def writer(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which the script runs something quick in place of Python."""
    path = tmp_path / "writer"
    path.write_text(textwrap.dedent(WRITER).format(python=sys.executable))
    path.chmod(0o755)
    return {**os.environ, "PYTHON": str(path)}


def session(*arguments: object, **options: object) -> "subprocess.Popen[str]":
    """Return the script, started."""
    command = ["bash", str(SCRIPT), *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, **pipes, **options)  # type: ignore[call-overload,no-any-return]


def archived(out: Path, name: str) -> str:
    """Return what a file in the archive says."""
    with tarfile.open(out / "gpu.tgz") as archive:
        file = archive.extractfile(f"./{name}")
        assert file is not None
        return file.read().decode()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    process = session(tmp_path / "out", env={**os.environ, "PYTHON": sys.executable})
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 3 and "no card" in said and not (tmp_path / "out").exists()


def test_each_stage_has_a_line_and_the_second_call_begins_with_what_failed(
    tmp_path: Path, writer: dict[str, str]
) -> None:
    stages = ("profile", "ops")
    process = session("--rehearse", tmp_path, *stages, env=writer)
    said, _ = process.communicate(timeout=60)
    lines = ["ops: failed (exit 1):  no such op ", "profile: reached the card"]
    assert process.returncode == 0 and (tmp_path / "summary.txt").read_text().splitlines() == lines
    assert archived(tmp_path, "summary.txt").splitlines() == lines and "no such op" in archived(tmp_path, "ops.log")
    assert said.endswith("\n".join(lines) + "\n")
    again = session("--rehearse", "second", tmp_path, *stages, "lcm", env=writer)
    again.communicate(timeout=60)
    first, second = (tmp_path / "summary.txt").read_text().splitlines()
    assert first.startswith("ops: failed") and second == "lcm: reached the card"


def test_twenty_moments_of_a_signal_leave_an_archive_with_every_row(tmp_path: Path, writer: dict[str, str]) -> None:
    draws = random.Random(0)
    outs = [tmp_path / str(number) for number in range(20)]
    moments = sorted((draws.uniform(0.3, 1.5), out) for out in outs)
    running = {out: session("--rehearse", out, "profile", "ours", "lcm", env=writer) for out in outs}
    while not all((out / "work" / "stages.txt").exists() for out in outs):
        time.sleep(0.01)
    began = time.monotonic()
    for number, (moment, out) in enumerate(moments):
        time.sleep(max(0.0, began + moment - time.monotonic()))
        running[out].send_signal((signal.SIGINT, signal.SIGTERM)[number % 2])
    for out, process in running.items():
        process.communicate(timeout=60)
        assert process.returncode == 130
        rows = out / "work" / "iteration-cuda.jsonl"
        written = rows.read_text() if rows.exists() else ""
        assert all(set(json.loads(line)) == {"row"} for line in written.splitlines())
        assert archived(out, "summary.txt") == (out / "summary.txt").read_text()
        assert not written or archived(out, "iteration-cuda.jsonl") == written
        assert_gone(out)


def assert_gone(out: Path) -> None:
    """Check that nothing runs on that the script started."""
    names = [Path(f"/proc/{each}/cmdline") for each in os.listdir("/proc") if each.isdigit()]
    for name in names:
        try:
            assert str(out).encode() not in name.read_bytes().split(b"\0")
        except OSError:
            continue


def test_a_killed_one_leaves_readable_rows(tmp_path: Path, writer: dict[str, str]) -> None:
    process = session("--rehearse", tmp_path, "ours", env=writer)
    rows = tmp_path / "work" / "iteration-cuda.jsonl"
    while not rows.exists():
        time.sleep(0.01)
    time.sleep(0.2)
    process.kill()
    process.communicate(timeout=60)
    assert [json.loads(line)["row"] for line in rows.read_text().splitlines()][:3] == [0, 1, 2]


def test_the_limits_fit_both_calls() -> None:
    text = SCRIPT.read_text()
    limits = {name: int(at) for name, at in re.findall(r"\b(?:stage|bench) (\w+) (\d+) ", text)}
    first, second = re.findall(r'^order="(?:\$order )?([^$"]+)"', text, re.MULTILINE)
    sanitizers = ("memcheck", "racecheck")
    assert set(limits) | set(sanitizers) == {*first.split(), *second.split()}
    assert sum(limits[name] for name in first.split()) <= 420 - 8
    assert sum(limits[name] for name in ("engine", "profile", "rivals", "report", "lcm")) <= 240 - 8


def test_every_measurement_names_the_card() -> None:
    lines = SCRIPT.read_text().splitlines()
    measured = [line for line in lines if "bench run" in line or '" profile' in line]
    assert measured and all("--device " in line for line in measured)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_real_measurement_keeps_its_rows(number: signal.Signals, tmp_path: Path) -> None:
    process = session("--rehearse", tmp_path, "ours", env={**os.environ, "PYTHON": sys.executable}, cwd=ROOT)
    rows = tmp_path / "work" / "iteration-cuda.jsonl"
    deadline = time.monotonic() + 300
    while not rows.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    process.communicate(timeout=120)
    written = rows.read_text()
    assert process.returncode == 130 and archived(tmp_path, rows.name) == written
    assert all(json.loads(line)["rival"] for line in written.splitlines())
