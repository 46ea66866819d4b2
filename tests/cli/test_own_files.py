"""The user's own files on the command line: what can be read, and what is said of what cannot."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffexplain_fast.cli.explain import _words
from diffexplain_fast.cli.own_files import check_readable, function_of, made_by
from tests.cli.running import run


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


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of own files, which Python forgets after the test."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def written(folder: Path, name: str, *lines: str) -> str:
    (folder / name).write_text("\n".join([*lines, ""]))
    return f"{folder / name}:make"


def test_a_file_imports_its_neighbours_whenever_it_wants(own: Path) -> None:
    written(own, "beside.py", "import mine_too", "number = 3")
    written(own, "later.py", "number = 4")
    lines = ["import beside", "def make():", "    import later", "    return beside.number + later.number"]
    assert made_by("classifier", written(own, "mine_too.py", *lines)) == 7


def test_classes_of_a_file_find_their_module(own: Path) -> None:
    lines = ["from __future__ import annotations", "from dataclasses import dataclass", "import pickle", "@dataclass"]
    lines += ["class Config:", "    width: int = 8", "def make():", "    return pickle.loads(pickle.dumps(Config()))"]
    assert made_by("classifier", written(own, "mine_with_classes.py", *lines)).width == 8


@pytest.mark.parametrize("name", ["json.py", "torch.py"])
def test_a_file_with_the_name_of_a_library_takes_nothing_from_it(name: str, own: Path) -> None:
    before = sys.modules[name[:-3]]
    assert made_by("classifier", written(own, name, "def make():", "    return 5")) == 5
    assert sys.modules[name[:-3]] is before


def test_a_file_that_was_changed_is_run_again(own: Path) -> None:
    assert made_by("classifier", written(own, "mine_again.py", "def make():", "    return 5")) == 5
    assert made_by("classifier", written(own, "mine_again.py", "def make():", "    return 5_000")) == 5000


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["def make(width):", "    pass"], "wanted a function that needs no arguments, got {name}: missing .* 'width'"),
        (["import nowhere_to_be_found"], r"wanted a file of Python that runs, got ModuleNotFoundError: .*, line 1\)"),
        (["def make(:"], "wanted a file of Python that runs, got SyntaxError: invalid syntax"),
        (["def make():", "    return [][1]"], r"wanted a function that makes it, .* got IndexError: .*, line 2\)"),
        (["import json", "def make():", "    json.loads('x')"], r"got JSONDecodeError: .*mine_bad.py, line 3\)"),
    ],
)
def test_a_file_that_fails_is_named_with_the_line(lines: list[str], message: str, own: Path) -> None:
    name = written(own, "mine_bad.py", *lines)
    with pytest.raises(ValueError, match=f"^classifier: .*{message.format(name=name)}"):
        made_by("classifier", name)
    code, text = run("classes", name)
    assert code == 2 and "Traceback" not in text and text.count("\n") == 1
