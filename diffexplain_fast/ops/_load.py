"""The compiled libraries: each is loaded once, and the text of a failure is kept as the reason."""

from pathlib import Path

import torch

_BUILD = "pip install --no-build-isolation -e . with a C++ compiler (and nvcc for CUDA)"


def _load(stem: str) -> str:
    """Load ``diffexplain_fast/<stem>*.so``; return why it is missing, or an empty string."""
    paths = sorted(Path(__file__).parents[1].glob(f"{stem}*.so"))
    if not paths:
        return f"{stem} was not built; build it: {_BUILD}"
    try:
        torch.ops.load_library(str(paths[0]))
    except OSError as error:
        return f"{paths[0].name} does not load ({error}); build it again: {_BUILD}"
    return ""


CPP_MISSING = _load("_C_cpu")
"""Why C++ kernels are missing, or an empty string."""
CUDA_MISSING = _load("_C_cuda") if torch.version.cuda else "this torch has no CUDA; install a CUDA build of torch"
"""Why CUDA kernels are missing, or an empty string."""
