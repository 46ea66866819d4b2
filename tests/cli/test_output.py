"""A place that cannot be written is refused before any computation; files that a rerun replaces are not."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from diffexplain_fast.cli.main import app
from diffexplain_fast.cli.output import check_file, check_folder
from diffexplain_fast.results.explanation import Explanation


def a_file(out: Path) -> None:
    """Put a file in the place of a folder."""
    out.write_text("mine")


def a_file_above(out: Path) -> None:
    """Put a file in the place of the folder above."""
    out.parent.rmdir()
    out.parent.write_text("mine")


def a_folder(name: str) -> Callable[[Path], None]:
    """Put a folder in the place of a file."""
    return lambda out: (out / name).mkdir(parents=True)


def a_note(name: str) -> Callable[[Path], None]:
    """Put a file that no command has written into a folder."""

    def make(out: Path) -> None:
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text("mine")

    return make


# Each command has another mistake, which would be named if the output were checked later.
EXPLAIN = ["explain", "./nosuch", "boat"]
PROFILE = ["profile", "--pipeline", "./nosuch"]
RUN = ["bench", "run", "--pipeline", "./nosuch"]
REPORT = ["bench", "report", "./nosuch.jsonl"]
REFUSED = {
    "explain, a file": (EXPLAIN, a_file, "out, which is not a folder"),
    "explain, below a file": (EXPLAIN, a_file_above, "folder, which is not a folder"),
    "explain, not ours": (EXPLAIN, a_note("explanation/notes.txt"), "explanation with notes.txt"),
    "explain, report": (EXPLAIN, a_folder("report.html"), "report.html"),
    "explain, checkpoint": (EXPLAIN, a_note("checkpoint"), "checkpoint, which is not a folder"),
    "profile, a file": (PROFILE, a_file, "out, which is not a folder"),
    "profile, trace": (PROFILE, a_folder("trace.json"), "trace.json"),
    "run, a folder": (RUN, a_folder("."), "wanted a file, new or existing, got the folder"),
    "run, below a file": (RUN, a_file_above, "folder, which is not a folder"),
    "report, a file": (REPORT, a_file, "out, which is not a folder"),
    "report, report": (REPORT, a_folder("report.md"), "report.md"),
    "demo, a file": (["demo"], a_file, "out, which is not a folder"),
    "demo, not ours": (["demo"], a_note("companion-tree/notes.txt"), "companion-tree with notes.txt"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_out_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    command, spoil, said = REFUSED[name]
    out = tmp_path / "folder" / "out"
    out.parent.mkdir()
    spoil(out)
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert done.exit_code == 2 and "--out" in done.output and said in done.output, done.output
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("check", [check_folder, check_file])
def test_impossible_names_are_refused(tmp_path: Path, check: Callable[[Path], None]) -> None:
    with pytest.raises(ValueError, match=r"--out: wanted a .*, new or existing, got .*too long"):
        check(tmp_path / ("long" * 100) / "out")


def test_a_broken_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(ValueError, match="link, which is not a folder"):
        check_folder(tmp_path / "link")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nobody forbids root to write")
def test_a_place_without_write_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        for check, path in ((check_folder, tmp_path / "out"), (check_file, tmp_path / "file")):
            with pytest.raises(ValueError, match="which may not be written"):
                check(path)
    finally:
        tmp_path.chmod(0o700)


def test_files_that_a_rerun_replaces_are_allowed(tmp_path: Path) -> None:
    images, soft = [Image.new("RGB", (2, 2))], torch.zeros(1, 2)
    made = Explanation(
        target="t",
        label=None,
        images=images,
        prompt_embeds=soft,
        activation={},
        words=[],
        history=[],
        settings={},
        truth=None,
    )
    made.save(tmp_path / "explanation")
    (tmp_path / "report.html").write_text("earlier")
    (tmp_path / "notes.txt").write_text("beside them")
    check_folder(tmp_path, ["report.html"], ["explanation"])
    check_folder(tmp_path / "new" / "folder", ["report.html"], ["explanation"])
    check_file(tmp_path / "notes.txt")
    check_file(tmp_path / "new" / "rows.jsonl")
