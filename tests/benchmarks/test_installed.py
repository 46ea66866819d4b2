"""What is installed can measure: the room of benchmarks is in the package, and works away from a checkout."""

import os
import subprocess
import sys
from pathlib import Path

from setuptools import find_packages

ROOT = Path(__file__).parents[2]


def test_the_package_has_the_room() -> None:
    assert "diffexplain_fast.measuring.bench" in find_packages(
        str(ROOT), include=["diffexplain_fast", "diffexplain_fast.*"]
    )


def test_nothing_installed_needs_the_folder_benchmarks() -> None:
    room = ROOT / "diffexplain_fast"
    found = [path for path in room.rglob("*.py") if "from benchmarks" in path.read_text(encoding="utf-8")]
    assert not found


def test_the_built_package_has_the_room(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)]
    build = ["build_py", "--build-lib", str(tmp_path / "lib")]
    environment = {**os.environ, "DIFFEXPLAIN_FAST_BUILD": "0"}
    subprocess.run([*command, *build], cwd=ROOT, env=environment, check=True, capture_output=True, timeout=300)
    installed = tmp_path / "lib" / "diffexplain_fast"
    assert (installed / "measuring" / "bench" / "rivals.py").exists() and (installed / "kernels" / "geglu.py").exists()
    code = "from diffexplain_fast.measuring.bench import compare as i; print(i.__file__)"
    paths = {**os.environ, "PYTHONPATH": str(tmp_path / "lib")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=paths, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(installed / "measuring" / "bench" / "compare.py")
