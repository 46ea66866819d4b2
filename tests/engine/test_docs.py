"""docs/engine.md is true of the tree: its files and names are there, and its plan is what the command prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S))
FILE = re.compile(r"`((?:engine|models|ops|tests)/[\w/]+\.py)`")
TASKS = re.findall(r"^- \*\*(.+?)\.\*\*(.*?)(?=^- \*\*|\Z)", SECTIONS["Three changes, on paper"], re.M | re.S)


def source(name: str) -> str:
    """Return the text of a file that the page names."""
    return (ROOT / name if name.startswith("tests/") else ROOT / "diffexplain_fast" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(set(FILE.findall(TEXT))))
def test_a_file_that_the_page_names_exists(name: str) -> None:
    assert source(name)


def test_the_page_explains_the_engine_in_fifteen_lines() -> None:
    lines = re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |\Z)", SECTIONS["In fifteen lines"], re.M | re.S)
    assert [int(number) for number, _ in lines] == list(range(1, 16))
    assert all(FILE.search(text) for _, text in lines)


def test_every_room_of_the_engine_has_its_line() -> None:
    named = {name.rpartition("/")[0] for name in FILE.findall(SECTIONS["In fifteen lines"])}
    rooms = {f"engine/{path.parent.name}" for path in (ROOT / "diffexplain_fast" / "engine").glob("*/*.py")}
    assert len(rooms) >= 4 and rooms <= named


@pytest.mark.parametrize(("task", "text"), TASKS, ids=[task for task, _ in TASKS])
def test_a_change_names_at_most_three_files(task: str, text: str) -> None:
    assert 1 <= len(set(FILE.findall(text))) <= 3


def test_there_are_three_changes() -> None:
    assert len(TASKS) == 3


NAMES = {
    "engine/fast/trajectory.py": ["class Job", "def _step", "def backward"],
    "engine/fast/node.py": ["class _Sampled"],
    "engine/fast/runner.py": ["class Runner", "class Eager"],
    "engine/fast/replay.py": ["class Replay", "def _kind"],
    "engine/fast/retry.py": ["class Retrying"],
    "engine/fast/determinism.py": ["class WithSettings"],
    "engine/lean/levels.py": ["LEVELS"],
    "engine/lean/unet.py": ["def project", "levels, reason"],
    "engine/graphs/policy.py": ["class Graphs", "def recording"],
    "engine/memory/plan.py": ["def choose_levels"],
    "engine/memory/planner.py": ["class Planning"],
}


@pytest.mark.parametrize("name", NAMES)
def test_the_names_of_the_page_are_in_the_files_it_says(name: str) -> None:
    assert not [part for part in NAMES[name] if part not in source(name)]


@pytest.mark.slow
def test_the_plan_is_what_the_command_prints() -> None:
    (command,) = re.findall(r"`diffexplain-fast (bench estimate [^`]+)`", TEXT)
    (wanted,) = re.findall(r"```text\n(weights .*?)\n```", TEXT, re.S)
    code = "from diffexplain_fast.cli.main import app; app()"
    done = subprocess.run([sys.executable, "-c", code, *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and wanted in done.stdout, done.stdout + done.stderr
