"""The first use of a package without compiled kernels: compiled once, by whoever comes first, or a reason."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffexplain_fast.ops import _compile, _first_use, _load


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIFFEXPLAIN_FAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DIFFEXPLAIN_FAST_BUILD", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def small_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources that compile in a moment, in place of csrc; the rules that compile them are the real ones."""
    csrc = tmp_path / "csrc"
    (csrc / "cpu").mkdir(parents=True)
    (csrc / "cpu" / "first.cpp").write_text('#include "header.h"\nextern "C" int first() { return NUMBER; }\n')
    (csrc / "cpu" / "second.cpp").write_text('extern "C" int second() { return 2; }\n')
    (csrc / "cpu" / "header.h").write_text("#define NUMBER 1\n")
    monkeypatch.setattr(_first_use, "source_folder", lambda: csrc)
    return csrc


def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which every compilation from now on adds its kind."""
    calls: list[str] = []
    build = _compile.build

    def counted(kind: str, *rest: object) -> None:
        calls.append(kind)
        build(kind, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(_compile, "build", counted)
    return calls


needs_compiler = pytest.mark.skipif(bool(_compile.missing_tool("cpu")), reason=_compile.missing_tool("cpu"))


@needs_compiler
def test_the_first_use_compiles_once_and_says_so(
    cache: Path, small_sources: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = compiled(monkeypatch)
    library, reason = _first_use.compiled_library()
    assert library is not None and library.is_relative_to(cache) and not reason
    assert (
        len(caplog.messages) == 1 and str(library.parent) in caplog.text and "DIFFEXPLAIN_FAST_BUILD=0" in caplog.text
    )
    assert _first_use.compiled_library() == (library, "")
    assert calls == ["cpu"] and [path.name for path in library.parent.iterdir()] == [library.name]


@needs_compiler
def test_changed_sources_are_another_library(cache: Path, small_sources: Path) -> None:
    before, _ = _first_use.compiled_library()
    (small_sources / "cpu" / "header.h").write_text("#define NUMBER 3\n")
    after, _ = _first_use.compiled_library()
    assert before != after and before is not None and after is not None and before.exists() and after.exists()


@needs_compiler
def test_a_failure_costs_its_time_once_and_says_where_the_compilers_words_are(
    cache: Path, small_sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small_sources / "cpu" / "second.cpp").write_text("this is not C++\n")
    calls = compiled(monkeypatch)
    library, reason = _first_use.compiled_library()
    assert library is None and "error" in reason and "failure.txt, remove that file to try again" in reason
    assert _first_use.compiled_library() == (None, reason) and calls == ["cpu"]
    next(cache.rglob("failure.txt")).unlink()
    assert _first_use.compiled_library()[0] is None and calls == ["cpu", "cpu"]


@pytest.mark.parametrize(
    ("obstacle", "reason"),
    [
        ("forbidden", "DIFFEXPLAIN_FAST_BUILD=0 forbids to compile it; unset DIFFEXPLAIN_FAST_BUILD, and the next use"),
        ("no sources", "the package came without its sources in csrc; build it with a C++ compiler, in a copy of the"),
        ("no compiler", "g++ was not found; install a C++ compiler, and the next use compiles it"),
        ("no ninja", "ninja was not found; pip install ninja, and the next use compiles it"),
        ("no cache", "it cannot be compiled into the cache: "),
    ],
)
def test_what_stands_in_the_way_is_said_and_nothing_is_compiled(
    obstacle: str, reason: str, cache: Path, small_sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = compiled(monkeypatch)
    if obstacle == "forbidden":
        monkeypatch.setenv("DIFFEXPLAIN_FAST_BUILD", "0")
    elif obstacle == "no sources":
        monkeypatch.setattr(_first_use, "source_folder", lambda: None)
    elif obstacle == "no compiler":
        monkeypatch.setattr(_compile.shutil, "which", lambda tool, path=None: None)
    elif obstacle == "no ninja":
        monkeypatch.setattr(_compile, "missing_tool", lambda kind: "ninja was not found; pip install ninja")
    else:
        monkeypatch.setattr(_compile, "missing_tool", lambda kind: "")
        cache.write_text("a file lies where the folder should be")
    library, said = _first_use.compiled_library()
    assert library is None and said.startswith(reason) and not calls
    assert ("pip install --no-build-isolation ." in said) == (obstacle == "no sources")
    assert ("DIFFEXPLAIN_FAST_CACHE, and the next use compiles it" in said) == (obstacle == "no cache")


@pytest.mark.parametrize("allowed", [True, False])
def test_what_helps_follows_from_the_reason(
    allowed: bool, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_load, "may_compile", lambda: allowed)
    monkeypatch.setattr(_load, "compiled_library", lambda: (None, "g++ was not found; install it"))
    monkeypatch.setattr(_load, "__file__", str(tmp_path / "package" / "ops" / "_load.py"))
    assert _load._load("_C_cpu") == "_C_cpu was not built: g++ was not found; install it"
    first = "" if allowed else "unset DIFFEXPLAIN_FAST_BUILD, and "
    wanted = f"{first}build it with nvcc, with a C++ compiler, in a copy of the repository: pip install --no-build"
    assert wanted in _load._load("_C_cuda") and "-e" not in _load._load("_C_cuda")
    broken = tmp_path / "cache" / "broken.so"
    broken.parent.mkdir()
    broken.write_text("no library")
    monkeypatch.setattr(_load, "compiled_library", lambda: (broken, ""))
    assert _load._load("_C_cpu").endswith(f"remove {broken}, and the next use compiles it")


@needs_compiler
@pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system has no owners of files")
def test_a_library_that_others_can_write_is_not_loaded(cache: Path, small_sources: Path) -> None:
    library, _ = _first_use.compiled_library()
    assert library is not None
    library.chmod(0o666)
    assert _first_use.compiled_library() == (
        None,
        f"{library} can be written by another user, so that it is not loaded; remove it, and the next use compiles it",
    )


@needs_compiler
def test_two_processes_compile_once_between_them(cache: Path, small_sources: Path) -> None:
    code = (
        "import logging, pathlib, sys; logging.basicConfig(level=logging.WARNING)\n"
        "from diffexplain_fast.ops import _first_use\n"
        "_first_use.source_folder = lambda: pathlib.Path(sys.argv[1])\n"
        "print(_first_use.compiled_library()[0])\n"
    )
    # The package itself finds the libraries of this checkout, so that only the call above compiles.
    command = [sys.executable, "-c", code, str(small_sources)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=300) for process in both]
    libraries = {out.strip() for out, _ in told}
    assert len(libraries) == 1 and Path(libraries.pop()).is_relative_to(cache)
    assert sum("compiles its C++ kernels once" in err for _, err in told) == 1


@needs_compiler
def test_only_changed_sources_are_compiled_again(small_sources: Path, tmp_path: Path) -> None:
    out, objects = tmp_path / "out" / "lib.so", tmp_path / "objects"
    _compile.build("cpu", small_sources, out, objects)
    times = {path.name: path.stat().st_mtime_ns for path in objects.glob("*.o")}
    (small_sources / "cpu" / "header.h").write_text("#define NUMBER 4\n")
    _compile.build("cpu", small_sources, out, objects)
    changed = {path.name for path in objects.glob("*.o") if path.stat().st_mtime_ns != times[path.name]}
    assert changed == {"cpu_first.o"}


@needs_compiler
def test_folders_with_spaces_and_dollars_compile(small_sources: Path, tmp_path: Path) -> None:
    place = small_sources.rename(tmp_path / "with space, $dollar: and colon")
    _compile.build("cpu", place, tmp_path / "out $ put" / "lib.so", tmp_path / "ob jects")
    assert (tmp_path / "out $ put" / "lib.so").exists()
