"""The script that runs the tests of the extras names extras and tests that exist, and no network fails it."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

from tests.docs.reading import ROOT

SCRIPT = ROOT / "tests" / "extras.sh"
STUB = """#!/bin/sh
case "$*" in
  *tomllib*) echo a-package ;;
  *"pip install"*) echo "ERROR: no network"; exit 1 ;;
  *"pip uninstall"*) ;;
  *pytest*) echo "ran: $*"; exit 5 ;;
  *"import wandb"*) [ -n "$WANDB_IS_THERE" ] ;;
  *) echo "ModuleNotFoundError"; exit 1 ;;
esac
"""


def ran(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script where nothing can be installed."""
    for name, text in {"python": STUB, "chromium": "#!/bin/sh\n", "npm": "#!/bin/sh\nexit 1\n"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    given = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHON": str(folder / "python"), "WANDB_IS_THERE": ""}
    return subprocess.run([SCRIPT], env=os.environ | given | variables, capture_output=True, text=True, timeout=100)


def test_every_extra_that_make_test_does_not_install_is_there_and_its_tests_exist() -> None:
    lines = re.findall(r'^ *extra (\w+) ("[^"]+"|\w+) (.+)$', SCRIPT.read_text(), re.MULTILINE)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    by_make = {"all", "test", "dev", "docs", "plot", "captum", "tensorboard", "photographs", "pandas"}
    assert {name for name, _, _ in lines} == set(known) - by_make - {"xformers"}  # which needs a GPU
    for test in (test for _, _, tests in lines for test in tests.split()):
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text() if name else (ROOT / path).is_file(), test


def test_what_cannot_be_installed_is_said_and_fails_nothing(tmp_path: Path) -> None:
    done = ran(tmp_path)
    assert done.returncode == 0 and done.stdout.endswith("no test can run\n"), done.stdout + done.stderr
    for name in ("timm", "wandb", "ray", "browser"):
        assert f"{name}: left out, ERROR: no network" in done.stdout
    late = ran(tmp_path, INSTALL="0")
    assert late.returncode == 0 and "ray: left out, no time is left" in late.stdout


def test_the_tests_of_what_is_there_decide(tmp_path: Path) -> None:
    done = ran(tmp_path, WANDB_IS_THERE="yes")
    assert done.returncode == 5 and "wandb: is there" in done.stdout
    (line,) = re.findall(r"^ran: .*$", done.stdout, re.MULTILINE)
    assert re.findall(r"tests/\S+", line) == [
        "tests/runs/test_callbacks.py::test_wandb_keeps_the_steps_and_the_result_in_a_folder"
    ]
