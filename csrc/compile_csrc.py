"""How csrc is compiled: one library for the CPU, one for CUDA, against torch's stable ABI, for torch 2.10 and later."""

import glob
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

from setuptools import Extension
from setuptools.command.build_ext import build_ext

TORCH = (spec := importlib.util.find_spec("torch")) and pathlib.Path(spec.origin).parent  # None in an isolated build
MODE = os.environ.get("DIFFEXPLAIN_FAST_BUILD", "auto")
CHIPS = os.environ.get("TORCH_CUDA_ARCH_LIST", "8.0;8.6;8.9;9.0;12.0").replace(".", "").replace("+PTX", "").split(";")
HINT = "; DIFFEXPLAIN_FAST_BUILD=0 installs without compiled kernels"
STABLE = ["-std=c++17", "-O3", "-DTORCH_TARGET_VERSION=0x020a000000000000ULL", f"-I{TORCH}/include"]
VECTOR = ["-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd"]
LINK = ["-shared", f"-L{TORCH}/lib", "-Xlinker", "--no-as-needed", "-ltorch", "-ltorch_cpu", "-lc10"]


def cpu_command(sources: list[str], out: str, *flags: str) -> list[str]:
    """Return the command that compiles the library of the CPU; ``flags`` come last, so they override the others."""
    return ["g++", *VECTOR, *STABLE, *sources, "-o", out, *LINK, *flags]


def cuda_command(sources: list[str], chips: list[str], *flags: str) -> list[str]:
    """Return the command that compiles CUDA sources, with PTX for chips that are newer than the last."""
    code = [f"-gencode=arch=compute_{chip},code=sm_{chip}" for chip in chips]
    code.append(f"-gencode=arch=compute_{chips[-1]},code=compute_{chips[-1]}")
    host = ["-Xcompiler", "-fPIC,-fvisibility=hidden", "-cudart", "static"]
    return ["nvcc", "-t", "0", "-DUSE_CUDA", *host, *code, *STABLE, *sources, *flags]


class BuildStable(build_ext):
    """Compile csrc against torch's stable ABI: one library for the CPU, one for CUDA, each for torch 2.10 and later."""

    def build_extension(self, ext: Extension) -> None:
        out, temp = pathlib.Path(self.get_ext_fullpath(ext.name)), pathlib.Path(self.build_temp).resolve()
        for folder in (out.parent, temp):
            folder.mkdir(parents=True, exist_ok=True)
        if ext.name.endswith("_cpu"):
            return self.call(*cpu_command(ext.sources, str(out)))
        # CPU builds of torch have no libtorch_cuda.so to link to; at run time, the loaded one replaces this stub.
        stub = ["g++", "-shared", "-x", "c++", "/dev/null", "-Wl,-soname,libtorch_cuda.so", "-o"]
        self.call(*stub, f"{temp}/libtorch_cuda.so")
        return self.call(*cuda_command(ext.sources, CHIPS, "-o", str(out), *LINK, f"-L{temp}", "-ltorch_cuda"))

    def call(self, *command: str) -> None:
        if subprocess.call(command):
            raise SystemExit(f"diffexplain_fast: {command[0]} could not compile csrc{HINT}")


def why_not() -> str:
    """Return the reason why this machine cannot compile csrc, or an empty string if it can."""
    if MODE == "0":
        return "DIFFEXPLAIN_FAST_BUILD=0"
    if TORCH is None:
        return "torch is not importable here; use pip install --no-build-isolation"
    return "" if shutil.which("g++") else "g++ was not found"


def has_cuda() -> bool:
    """Return whether to compile the CUDA library: torch can use it, or DIFFEXPLAIN_FAST_BUILD=1 asks for it."""
    version = (TORCH / "version.py").read_text() if TORCH else ""
    return bool(shutil.which("nvcc") and (MODE == "1" or "cuda: Optional[str] = '" in version))


def extensions() -> list[Extension]:
    """Return the libraries that this machine can build; print the reason in one sentence if it cannot build any."""
    if (reason := why_not()) and MODE == "1":
        raise SystemExit(f"DIFFEXPLAIN_FAST_BUILD=1, but {reason}")
    if reason:
        sys.stderr.write(f"diffexplain_fast: installed without compiled kernels ({reason})\n")
        return []
    sources = {"cpu": glob.glob("csrc/cpu/*.cpp"), "cuda": glob.glob("csrc/cuda/*.cu") if has_cuda() else []}
    return [
        Extension(f"diffexplain_fast._C_{kind}", sorted(files), py_limited_api=True)
        for kind, files in sources.items()
        if files
    ]
