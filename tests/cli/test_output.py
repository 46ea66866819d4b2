"""What cannot be written is refused before anything is computed, and what a rerun replaces is not."""

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
    """Put a file where a folder is wanted."""
    out.write_text("mine")


def a_file_above(out: Path) -> None:
    """Put a file where the folder above is wanted."""
    out.parent.rmdir()
    out.parent.write_text("mine")


def a_folder(name: str) -> Callable[[Path], None]:
    """Put a folder where a file is wanted."""
    return lambda out: (out / name).mkdir(parents=True)


def a_note(name: str) -> Callable[[Path], None]:
    """Put a file that no command has written into a folder."""

    def make(out: Path) -> None:
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text("mine")

    return make


# Each has another mistake as well, which would be named if the output were looked at later.
EXPLAIN = ["explain", "./nosuch", "boat"]
PROFILE = ["profile", "--pipeline", "./nosuch"]
RUN = ["bench", "run", "--pipeline", "./nosuch"]
REPORT = ["bench", "report", "./nosuch.jsonl"]
REFUSED = {
    "explain, a file": (EXPLAIN, a_file, "out, which is no folder"),
    "explain, below a file": (EXPLAIN, a_file_above, "folder, which is no folder"),
    "explain, not ours": (EXPLAIN, a_note("explanation/notes.txt"), "explanation with notes.txt"),
    "explain, report": (EXPLAIN, a_folder("report.html"), "report.html"),
    "explain, checkpoint": (EXPLAIN, a_note("checkpoint"), "checkpoint, which is no folder"),
    "profile, a file": (PROFILE, a_file, "out, which is no folder"),
    "profile, trace": (PROFILE, a_folder("trace.json"), "trace.json"),
    "run, a folder": (RUN, a_folder("."), "wanted a file, new or existing, got the folder"),
    "run, below a file": (RUN, a_file_above, "folder, which is no folder"),
    "report, a file": (REPORT, a_file, "out, which is no folder"),
    "report, report": (REPORT, a_folder("report.md"), "report.md"),
    "demo, a file": (["demo"], a_file, "out, which is no folder"),
    "demo, not ours": (["demo"], a_note("background-fish/notes.txt"), "background-fish with notes.txt"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_at_once(tmp_path: Path, name: str) -> None:
    command, spoil, said = REFUSED[name]
    out = tmp_path / "folder" / "out"
    out.parent.mkdir()
    spoil(out)
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(app, [*command, "--out", str(out)])
    assert done.exit_code == 2 and "--out" in done.output and said in done.output, done.output
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("check", [check_folder, check_file])
def test_names_that_cannot_be_are_refused(tmp_path: Path, check: Callable[[Path], None]) -> None:
    with pytest.raises(ValueError, match=r"--out: wanted a .*, new or existing, got .*too long"):
        check(tmp_path / ("long" * 100) / "out")


def test_a_link_to_nothing_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(ValueError, match="link, which is no folder"):
        check_folder(tmp_path / "link")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nobody forbids root to write")
def test_what_may_not_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        for check, path in ((check_folder, tmp_path / "out"), (check_file, tmp_path / "file")):
            with pytest.raises(ValueError, match="which may not be written"):
                check(path)
    finally:
        tmp_path.chmod(0o700)


def test_what_a_rerun_replaces_is_allowed(tmp_path: Path) -> None:
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
