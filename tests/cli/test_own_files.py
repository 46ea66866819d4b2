"""The user's own files on the command line: what can be read, and what is said of what cannot."""

import os
import subprocess
from pathlib import Path

import pytest

from diffexplain_fast.cli.explain import _words
from diffexplain_fast.cli.own_files import check_readable, function_of


@pytest.mark.timeout(20)
def test_words_to_try_may_come_through_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_readable("--option", pipe, "a file")  # which would wait for somebody who writes
    with subprocess.Popen(["sh", "-c", 'exec printf "red\\nblue\\n" > "$0"', str(pipe)]):
        assert _words(f"@{pipe}") == ["red", "blue"]


@pytest.mark.parametrize(
    ("name", "why"), [("none", "No such file"), ("n" * 300, "File name too long"), (".", "Is a directory")]
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(name: str, why: str, tmp_path: Path) -> None:
    check_readable("--option", None, "a file")
    with pytest.raises(ValueError, match=rf"^--option: wanted a file, got {tmp_path / name}: {why}"):
        check_readable("--option", tmp_path / name, "a file")


def test_a_file_of_python_that_must_not_be_read_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def make():\n    return 1\n")
    assert function_of("--intervention", f"{file}:make")() == 1

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ValueError, match=rf"^--intervention: wanted a file of Python, .*, got {file}: Permission"):
        function_of("--intervention", f"{file}:make")
