"""How csrc is compiled: by ninja, one library for the CPU and one for CUDA, for torch 2.10 and later.

One set of rules serves ``setup.py``, ``make build`` and the first use of a package that came without compiled kernels.
``setup.py`` reads this file by its path, without the package, so only the standard library is imported here.
"""

import importlib.util
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_SPEC = importlib.util.find_spec("torch")
TORCH = Path(_SPEC.origin).parent if _SPEC and _SPEC.origin else None
"""Folder of torch, whose headers are read; None in an isolated build, where torch cannot be imported."""
_STABLE = ["-std=c++17", "-O3", "-DTORCH_TARGET_VERSION=0x020a000000000000ULL", f"-I{TORCH}/include"]
_VECTOR = ["-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd"]
_LINK = ["-shared", f"-L{TORCH}/lib", "-Xlinker", "--no-as-needed", "-ltorch", "-ltorch_cpu", "-lc10"]
_HOST = ["-Xcompiler", "-fPIC,-fvisibility=hidden", "-cudart", "static"]
_SUFFIXES = {"cpu": "*.cpp", "cuda": "*.cu"}


class CompileError(RuntimeError):
    """A library could not be compiled; the message has what the compiler said."""


def cpu_command(sources: Sequence[str], out: str, *flags: str) -> list[str]:
    """Return the command that compiles the library of the CPU in one go; ``flags`` come last and so win."""
    return ["g++", *_VECTOR, *_STABLE, *sources, "-o", out, *_LINK, *flags]


def cuda_command(sources: Sequence[str], chips: Sequence[str], *flags: str) -> list[str]:
    """Return the command that compiles CUDA sources, with PTX for chips that are newer than the last of ``chips``."""
    code = [f"-gencode=arch=compute_{chip},code=sm_{chip}" for chip in chips]
    code.append(f"-gencode=arch=compute_{chips[-1]},code=compute_{chips[-1]}")
    return ["nvcc", "-t", "0", "-DUSE_CUDA", *_HOST, *code, *_STABLE, *sources, *flags]


def sources_of(csrc: Path, kind: str) -> list[Path]:
    """Return the sources of a library.

    Args:
        csrc: folder with ``cpu`` and ``cuda``.
        kind: "cpu" or "cuda".
    """
    return sorted((csrc / kind).glob(_SUFFIXES[kind]))


def missing_tool(kind: str) -> str:
    """Return why a library cannot be compiled on this machine, nothing if it can."""
    if TORCH is None:
        return "torch is not importable here; use pip install --no-build-isolation"
    for tool in ("g++", "nvcc") if kind == "cuda" else ("g++",):
        if not shutil.which(tool):
            return f"{tool} was not found"
    return "" if ninja() else "ninja was not found; pip install ninja"


def ninja() -> str | None:
    """Return the path of ninja: that of the Python package, or one on the path."""
    try:
        from ninja import BIN_DIR
    except ImportError:
        return shutil.which("ninja")
    return shutil.which("ninja", path=BIN_DIR)


def build(kind: str, csrc: Path, out: Path, objects: Path, chips: Sequence[str] = ()) -> None:
    """Compile one library: every source by itself and in parallel, and only the sources that changed.

    Args:
        kind: "cpu" or "cuda".
        csrc: folder of the sources.
        out: library to write.
        objects: folder of object files; what lies there from an earlier build is used again.
        chips: compute capabilities without their point, such as "90"; only for "cuda".

    Raises:
        CompileError: a compiler failed; the message is what it printed.
    """
    objects.mkdir(parents=True, exist_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    rules = objects / f"{kind}.ninja"
    rules.write_text(_ninja_file(kind, sources_of(csrc, kind), out.resolve(), chips), encoding="utf-8")
    command = [str(ninja()), "-f", rules.name, "--quiet"]
    done = subprocess.run(command, cwd=objects, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise CompileError((done.stdout + done.stderr).strip())


def _ninja_file(kind: str, sources: Sequence[Path], out: Path, chips: Sequence[str]) -> str:
    """Return the build file: a rule that compiles, a rule that links, and an object for each source."""
    names = [f"{kind}_{source.stem}.o" for source in sources]
    if kind == "cpu":
        compiler, linker, inputs = ["g++", *_VECTOR, *_STABLE], ["g++", "-fPIC"], list(names)
        libraries, extra = _LINK, []
    else:
        compiler, linker = cuda_command([], chips), ["nvcc", *_HOST]
        # CPU builds of torch have no libtorch_cuda.so to link; at run time the loaded one takes the place of this.
        inputs, libraries = [*names, "libtorch_cuda.so"], [*_LINK, "-L.", "-ltorch_cuda"]
        stub = ["g++", "-shared", "-x", "c++", "/dev/null", "-Wl,-soname,libtorch_cuda.so", "-o", "libtorch_cuda.so"]
        extra = ["rule stub", f"  command = {_shell(stub)}", "build libtorch_cuda.so: stub", ""]
    objects = " ".join(names)
    lines = [
        "ninja_required_version = 1.5",
        "rule compile",
        f"  command = {_shell(compiler)} -MD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "",
        "rule link",
        f"  command = {_shell(linker)} {objects} -o $out {_shell(libraries)}",
        "",
        *extra,
        *(f"build {name}: compile {_path(source)}" for name, source in zip(names, sources, strict=True)),
        f"build {_path(out)}: link {' '.join(inputs)}",
        f"default {_path(out)}",
        "",
    ]
    return "\n".join(lines)


def _shell(words: Sequence[str]) -> str:
    return shlex.join(words).replace("$", "$$")


def _path(path: Path) -> str:
    text = str(path)
    if "\n" in text:
        raise CompileError(f"{text!r}: ninja reads no path with a line break")
    return text.replace("$", "$$").replace(" ", "$ ").replace(":", "$:")
