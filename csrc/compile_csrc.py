"""How setup.py compiles csrc against torch's stable ABI; the rules themselves lie in the package, for its first use."""

import importlib.util
import os
import pathlib
import sys

from setuptools import Extension
from setuptools.command.build_ext import build_ext

ROOT = pathlib.Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"
MODE = os.environ.get("DIFFEXPLAIN_FAST_BUILD", "auto")
CHIPS = os.environ.get("TORCH_CUDA_ARCH_LIST", "8.0;8.6;8.9;9.0;12.0").replace(".", "").replace("+PTX", "").split(";")
HINT = "; DIFFEXPLAIN_FAST_BUILD=0 installs without compiled kernels"

# By its path: importing the package would import torch, which an isolated build does not have.
_spec = importlib.util.spec_from_file_location("compile_rules", ROOT / "diffexplain_fast" / "ops" / "_compile.py")
rules = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(rules)
cpu_command, cuda_command = rules.cpu_command, rules.cuda_command


class BuildStable(build_ext):
    """Compile csrc against torch's stable ABI: one library for the CPU, one for CUDA, each for torch 2.10 and later."""

    def build_extension(self, ext: Extension) -> None:
        out, kind = pathlib.Path(self.get_ext_fullpath(ext.name)), ext.name.rpartition("_")[2]
        try:
            rules.build(kind, CSRC, out, pathlib.Path(self.build_temp).resolve() / "csrc", CHIPS)
        except rules.CompileError as error:
            raise SystemExit(f"{error}\ndiffexplain_fast: csrc/{kind} could not be compiled{HINT}") from None


def why_not() -> str:
    return "DIFFEXPLAIN_FAST_BUILD=0" if MODE == "0" else rules.missing_tool("cpu")


def has_cuda() -> bool:
    """Whether the CUDA library is worth compiling: torch can use it, or it was asked for."""
    version = (rules.TORCH / "version.py").read_text() if rules.TORCH else ""
    wanted = MODE == "1" or "cuda: Optional[str] = '" in version
    return wanted and not rules.missing_tool("cuda")


def extensions() -> list[Extension]:
    """Return the libraries that this machine can build, and say in one sentence why not if it cannot."""
    if (reason := why_not()) and MODE == "1":
        raise SystemExit(f"DIFFEXPLAIN_FAST_BUILD=1, but {reason}")
    if reason:
        sys.stderr.write(f"diffexplain_fast: installed without compiled kernels ({reason})\n")
        return []
    kinds = ("cpu", "cuda") if has_cuda() else ("cpu",)
    files = {kind: [str(path.relative_to(ROOT)) for path in rules.sources_of(CSRC, kind)] for kind in kinds}
    return [Extension(f"diffexplain_fast._C_{kind}", files[kind], py_limited_api=True) for kind in kinds]
