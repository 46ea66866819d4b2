"""The measurement of threads runs with any command, says every ratio, and leaves nothing behind."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.reading import ROOT

pytestmark = pytest.mark.slow


def measured(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script with a command of ours."""
    variables = {
        **os.environ,
        "PYTHON": sys.executable,
        "BUSY": "1",
        "TMPDIR": str(tmp_path),
        "OUT": str(tmp_path / "rows"),
    }
    script = str(ROOT / "benchmarks" / "threads.sh")
    return subprocess.run([script, *arguments], env=variables, capture_output=True, text=True, timeout=500)


def test_every_ratio_is_said_and_decides_the_exit_code(tmp_path: Path) -> None:
    done = measured(tmp_path, "--version")
    said = re.findall(r"([\d.]+) s, ([\d.]+) times; wanted at most ([\d.]+)$", done.stdout, re.MULTILINE)
    idle, one = map(float, re.findall(r"^idle: ([\d.]+) s; one thread: ([\d.]+) s$", done.stdout, re.MULTILINE)[0])
    if "not measured" not in done.stdout:
        assert float(said[0][1]) == pytest.approx(float(said[0][0]) / one, abs=0.2)
    assert float(said[-1][1]) == pytest.approx(float(said[-1][0]) / idle, abs=0.2)
    assert done.returncode == any(float(ratio) > float(most) for _, ratio, most in said), done.stdout + done.stderr
    assert not list(tmp_path.glob("tmp.*"))  # of mktemp; torch leaves a folder of its own
    row = json.loads((tmp_path / "rows").read_text())  # one line
    assert (row["arguments"], row["idle"], row["one_thread"], row["busy_processes"]) == ("--version", idle, one, 1)
    assert row["beside_them_over_idle"] == pytest.approx(float(said[-1][1]), abs=0.01)
    assert (row["quota_of_one_core"] is None) == ("not measured" in done.stdout)


def test_a_command_that_fails_ends_it_with_its_message(tmp_path: Path) -> None:
    done = measured(tmp_path, "explain", "tinyworld/no-such-one", "fish", "--out", str(tmp_path / "out"))
    assert done.returncode and "no-such-one" in done.stderr and "times" not in done.stdout
    assert not (tmp_path / "rows").exists()
    assert not list(tmp_path.glob("tmp.*"))  # of mktemp; torch leaves a folder of its own
