"""Versions and devices: what ``doctor`` prints and every result records."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

import torch

_PACKAGES = ("diffusers", "transformers", "triton", "xformers", "numpy")


class Devices(TypedDict):
    """What ``device_record`` returns."""

    cpu: str
    threads: int
    cuda: list[str]


def versions() -> dict[str, str | None]:
    """Return the version of Python, of this package and of what it runs on; None for what is not installed."""
    return {
        "python": platform.python_version(),
        # From a checkout that is not installed, the package itself says it.
        "diffexplain_fast": _installed("diffexplain-fast") or sys.modules["diffexplain_fast"].__version__,
        "torch": str(torch.__version__),  # with the build, such as +cu130, which the package's own record may leave out
        **{name: _installed(name) for name in _PACKAGES},
    }


def device_record() -> Devices:
    """Return the processor, the threads torch uses, and the CUDA devices, as JSON values."""
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cpu": _cpu_name(), "threads": torch.get_num_threads(), "cuda": cuda}


def default_device() -> torch.device:
    """Return the first CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cublas_workspace_config() -> str | None:
    """Return the size of cuBLAS's workspaces that the environment asks for, None where it asks for none."""
    return os.environ.get("CUBLAS_WORKSPACE_CONFIG")


def cache_folder() -> Path:
    """Return the folder for files that can be made again: DIFFEXPLAIN_FAST_CACHE, or one in the user's cache folder."""
    named = os.environ.get("DIFFEXPLAIN_FAST_CACHE")
    usual = os.environ.get("XDG_CACHE_HOME")
    return Path(named) if named else (Path(usual) if usual else Path.home() / ".cache") / "diffexplain_fast"


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
