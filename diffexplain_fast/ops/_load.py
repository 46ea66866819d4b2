"""The compiled libraries: loaded once, and a failure's text kept for whoever asks why."""

from pathlib import Path

import torch

from diffexplain_fast.ops._first_use import compiled_library

_BUILD = "pip install --no-build-isolation -e . with a C++ compiler (and nvcc for CUDA)"


def _load(stem: str) -> str:
    """Load ``diffexplain_fast/<stem>*.so``, or what the first use compiles; return why neither is there."""
    paths: list[Path] = sorted(Path(__file__).parents[1].glob(f"{stem}*.so"))
    reason = ""
    if not paths and stem == "_C_cpu":
        library, reason = compiled_library()
        paths = [] if library is None else [library]
    if not paths:
        because = f" ({reason})" if reason else ""
        return f"{stem} was not built{because}; build it: {_BUILD}"
    try:
        torch.ops.load_library(str(paths[0]))
    except OSError as error:
        return f"{paths[0].name} does not load ({error}); build it again: {_BUILD}"
    return ""


CPP_MISSING = _load("_C_cpu")
"""Why there are no C++ kernels, empty if there are."""
CUDA_MISSING = _load("_C_cuda") if torch.version.cuda else "this torch has no CUDA; install a CUDA build of torch"
"""Why there are no CUDA kernels, empty if there are."""
