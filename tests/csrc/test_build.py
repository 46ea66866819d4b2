"""The compiled libraries: optional, on the stable ABI, clean under sanitizers, without spills on any chip."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from csrc import compile_csrc

ROOT = Path(__file__).parents[2]
LIBRARIES = sorted((ROOT / "diffexplain_fast").glob("_C_cpu*.so"))
AUDIT = shutil.which("torch-abi-audit") or shutil.which("torch-abi-audit", path=str(Path(sys.executable).parent))
CUDA_SOURCES = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
CHIPS = ("80", "86", "89", "90", "120")


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | environment
    return subprocess.run([*map(str, command)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)


def test_without_a_build_nothing_is_compiled_and_one_sentence_says_why(tmp_path: Path) -> None:
    command = ("setup.py", "-q", "build_ext", "--build-lib", tmp_path / "lib", "--build-temp", tmp_path / "temp")
    done = run(sys.executable, *command, DIFFEXPLAIN_FAST_BUILD="0")
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.so"))
    said = [line for line in done.stderr.splitlines() if line.startswith("diffexplain_fast:")]
    assert said == ["diffexplain_fast: installed without compiled kernels (DIFFEXPLAIN_FAST_BUILD=0)"]


def test_a_build_that_was_asked_for_fails_without_a_compiler(tmp_path: Path) -> None:
    command = ("setup.py", "-q", "build_ext", "--build-lib", tmp_path / "lib", "--build-temp", tmp_path / "temp")
    done = run(sys.executable, *command, DIFFEXPLAIN_FAST_BUILD="1", PATH=str(tmp_path))
    assert done.returncode and "DIFFEXPLAIN_FAST_BUILD=1, but g++ was not found" in done.stderr


@pytest.mark.skipif(not LIBRARIES, reason="_C_cpu was not built; pip install --no-build-isolation -e .")
@pytest.mark.skipif(not AUDIT, reason="torch-abi-audit is not installed; pip install -e '.[test]'")
def test_the_library_keeps_to_the_stable_abi() -> None:
    for library in LIBRARIES:
        done = run(AUDIT, library, "--check", "torch")
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"Torch ABI:\s+STABLE\b", done.stdout), done.stdout
        assert re.search(r"Min torch:\s+2\.10(\.0)?\b", done.stdout), done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("nvcc"), reason="nvcc is not installed")
@pytest.mark.parametrize("source", CUDA_SOURCES, ids=lambda path: path.stem)
def test_no_cuda_kernel_spills_on_any_chip(source: Path, tmp_path: Path) -> None:
    flags = ("--resource-usage", "-c", "-o", tmp_path / "kernels.o")
    done = run(*compile_csrc.cuda_command([str(source)], list(CHIPS), *map(str, flags)))
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert set(re.findall(r"Compiling entry function \S+ for 'sm_(\d+)'", said)) == set(CHIPS), said
    spilled = [int(size) for size in re.findall(r"(\d+) bytes (?:stack frame|spill stores|spill loads)", said)]
    assert spilled and not any(spilled), said


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="g++ is not installed")
def test_no_sanitizer_reports_an_error(tmp_path: Path) -> None:
    library = tmp_path / "_C_sanitised.so"
    sources = sorted(map(str, (ROOT / "csrc" / "cpu").glob("*.cpp")))
    flags = ("-O1", "-g", "-DDIFFEXPLAIN_NO_CLONES", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    built = run(*compile_csrc.cpu_command(sources, str(library), *flags))
    assert built.returncode == 0, built.stderr
    # The C++ library is preloaded too, because the sanitizer needs it before Python loads it.
    paths = [run("g++", f"-print-file-name={name}.so").stdout.strip() for name in ("libasan", "libubsan", "libstdc++")]
    if not all(Path(path).is_absolute() for path in paths):
        pytest.skip("this g++ came without libasan and libubsan")
    done = run(
        *(sys.executable, "-m", "tests.csrc.every_op", library),
        LD_PRELOAD=" ".join(paths),
        ASAN_OPTIONS="detect_leaks=0",
        UBSAN_OPTIONS="print_stacktrace=1",
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="g++ is not installed")
def test_the_cuda_sources_compute_the_ops_on_the_cpu(tmp_path: Path) -> None:
    done = run(sys.executable, "-m", "tests.csrc.emulated", tmp_path / "emulated", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
