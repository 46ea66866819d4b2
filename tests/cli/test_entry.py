"""The command itself: what it says, to whom and in which letters, is no reason to lose what it does."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from diffexplain_fast.cli import entry
from diffexplain_fast.environment import versions
from tests.docs.reading import ROOT

_MANY = 5000
_WORK = """
import sys, types
from pathlib import Path

def app():
    for i in range({many}):
        print({said!a})
    Path(sys.argv[1]).write_text("done")
    sys.exit(3)

sys.modules["diffexplain_fast.cli.main"] = types.SimpleNamespace(app=app)
"""
"""Commands in the place of the real ones: one that says much before it has done its work."""
_STOP = """
import sys

class Stop:
    def find_spec(self, name, *_):
        if name == "torch":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Stop())
"""
_MINE = """
import torch
import diffexplain_fast as dx

def make():
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return dx.Classifier(net, labels=["b\u00e4r", "crane", "boat"], output="softmax")
"""


def _started(
    before: str, *words: object, stdout: object = subprocess.PIPE, encoding: str = "utf-8"
) -> subprocess.Popen:
    code = f"{before}\nfrom diffexplain_fast.cli.entry import main\nmain()"
    whole, env = [sys.executable, "-c", code, *map(str, words)], {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.Popen(whole, stdout=stdout, stderr=subprocess.PIPE, text=True, env=env)  # type: ignore[call-overload]


def test_a_closed_pipe_ends_the_output_and_not_the_work(tmp_path: Path) -> None:
    process = _started(_WORK.format(many=_MANY, said="a line of a summary"), tmp_path / "report")
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 3 and (tmp_path / "report").read_text() == "done" and not errors


def test_letters_that_the_output_does_not_have_are_escaped(tmp_path: Path) -> None:
    process = _started(_WORK.format(many=1, said="b\u00e4r \u201cx\u201d"), tmp_path / "report", encoding="ascii")
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 3 and said == "b\\xe4r \\u201cx\\u201d\n" and not errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
@pytest.mark.parametrize("many", [1, _MANY])
def test_a_full_disk_loses_no_work_and_fails(many: int, tmp_path: Path) -> None:
    work = _WORK.format(many=many, said="a line of a summary").replace("sys.exit(3)", "sys.exit(0)")
    with Path("/dev/full").open("wb") as full:
        process = _started(work, tmp_path / "report", stdout=full)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 1 and (tmp_path / "report").read_text() == "done"
    assert errors.startswith("diffexplain-fast: output: ") and "Traceback" not in errors


def test_a_real_command_is_guarded_too(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(_MINE, encoding="utf-8")
    process = _started("", "classes", f"{tmp_path / 'mine.py'}:make", encoding="ascii")
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0 and said.split() == ["0", "b\\xe4r", "1", "crane", "2", "boat"], errors
    process = _started("", "classes", "background")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2 and "did you mean tinyworld/background?" in errors


def test_an_interruption_while_torch_is_loaded_is_one_line() -> None:
    process = _started(_STOP, "doctor")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and errors == "diffexplain-fast: interrupted\n"


def test_the_package_installs_this_entry() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"diffexplain-fast": f"{entry.__name__}:{entry.main.__name__}"}


def test_the_package_runs_as_the_command() -> None:
    command = [sys.executable, "-m", "diffexplain_fast", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, versions()["diffexplain_fast"]), done.stderr
