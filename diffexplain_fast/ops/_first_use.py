"""The C++ kernels of a package that came without them: compiled once, on first use, into the user's cache."""

import hashlib
import logging
import os
import platform
import tempfile
from pathlib import Path

from diffexplain_fast.environment import CACHE_VARIABLE, cache_folder, may_compile
from diffexplain_fast.file_systems import claimed
from diffexplain_fast.ops import _compile

log = logging.getLogger(__name__)
_PACKAGE = Path(__file__).parents[1]
_LIBRARY, _FAILURE = "_C_cpu.abi3.so", "failure.txt"
UNSET = "unset DIFFEXPLAIN_FAST_BUILD"
AGAIN = ", and the next use compiles it"
BUILD = "with a C++ compiler, in a copy of the repository: pip install --no-build-isolation ."
"""What helps, for messages."""
_PATIENCE = 600.0
"""Seconds to wait for another process that compiles the same kernels."""


def compiled_library() -> tuple[Path | None, str]:
    """Return the library of the CPU from the user's cache, compiled now if it is not there yet.

    A failure is kept beside it, so that it costs its time only once.

    Returns:
        The library, or None; and why there is none and what helps, otherwise an empty text.
    """
    if not may_compile():
        return None, f"DIFFEXPLAIN_FAST_BUILD=0 forbids to compile it; {UNSET}{AGAIN}"
    csrc = source_folder()
    if csrc is None:
        return None, f"the package came without its sources in csrc; build it {BUILD}"
    try:
        folder = cache_folder() / "kernels" / _fingerprint(csrc)
        library, failure = folder / _LIBRARY, folder / _FAILURE
        if library.exists():
            return _own(library)
        if missing := _compile.missing_tool("cpu"):
            remedy = "" if "install" in missing else "; install a C++ compiler"
            return None, f"{missing}{remedy}{AGAIN}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with claimed(folder / ".claim", _PATIENCE):
            if not library.exists() and not failure.exists():
                _compile_into(folder, csrc)
        return _own(library) if library.exists() else (None, _described(failure))
    except OSError as error:
        remedy = f"make that place writable, or name another folder in {CACHE_VARIABLE}{AGAIN}"
        return None, f"it cannot be compiled into the cache: {error}; {remedy}"


def source_folder() -> Path | None:
    """Return the folder csrc: beside the modules where the package is installed, beside the package in a checkout."""
    return next((place for place in (_PACKAGE / "csrc", _PACKAGE.parent / "csrc") if (place / "cpu").is_dir()), None)


def _compile_into(folder: Path, csrc: Path) -> None:
    """Write the library, or the compiler's words; the library appears whole or not at all."""
    log.warning(
        "diffexplain_fast compiles its C++ kernels once, which takes about a minute, into %s; "
        "DIFFEXPLAIN_FAST_BUILD=0 forbids it",
        folder,
    )
    with tempfile.TemporaryDirectory(dir=folder) as objects:
        made = Path(objects) / _LIBRARY
        try:
            _compile.build("cpu", csrc, made, Path(objects))
        except _compile.CompileError as error:
            (folder / _FAILURE).write_text(str(error), encoding="utf-8")
        else:
            made.replace(folder / _LIBRARY)


def _described(failure: Path) -> str:
    lines = failure.read_text(encoding="utf-8").splitlines()
    told = next((line for line in lines if "error" in line), lines[0] if lines else "no words from the compiler")
    return f"it did not compile ({told}); all that the compiler said is in {failure}, remove that file to try again"


def _own(library: Path) -> tuple[Path | None, str]:
    """Refuse a library that another user could have put there: what is loaded runs with the rights of this one."""
    if hasattr(os, "getuid"):
        for path in (library, library.parent):
            found = path.stat()
            if found.st_uid not in (0, os.getuid()) or found.st_mode & 0o022:
                return None, f"{path} can be written by another user, so that it is not loaded; remove it{AGAIN}"
    return library, ""


def _fingerprint(csrc: Path) -> str:
    """Return what a compiled library follows from: the sources, the rules, and the kind of machine."""
    digest = hashlib.sha256(f"{platform.system()} {platform.machine()}".encode())
    headers = [path for path in csrc.rglob("*") if path.suffix in (".cpp", ".h")]
    for path in (Path(_compile.__file__), *sorted(headers)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
