"""The compiled libraries: loaded once, and a failure's text kept for whoever asks why."""

from pathlib import Path

import torch

from diffexplain_fast.environment import may_compile
from diffexplain_fast.ops._first_use import AGAIN, BUILD, UNSET, compiled_library


def _load(stem: str) -> str:
    """Load ``diffexplain_fast/<stem>*.so``, or what the first use compiles; return why neither is there and what helps.

    What helps depends on the reason: a library that the next use compiles by itself needs no installation.
    """
    paths: list[Path] = sorted(Path(__file__).parents[1].glob(f"{stem}*.so"))
    reason = ""
    if not paths and stem == "_C_cpu":
        library, reason = compiled_library()
        paths = [] if library is None else [library]
    first = "" if may_compile() else f"{UNSET}, and "
    if not paths:
        return f"{stem} was not built: {reason or f'{first}build it with nvcc, {BUILD}'}"
    try:
        torch.ops.load_library(str(paths[0]))
    except OSError as error:
        kept = paths[0].parent != Path(__file__).parents[1]
        remedy = f"remove {paths[0]}{AGAIN}" if kept else f"{first}build it again, {BUILD}"
        return f"{paths[0].name} does not load ({error}); {remedy}"
    return ""


CPP_MISSING = _load("_C_cpu")
"""Why there are no C++ kernels, empty if there are."""
CUDA_MISSING = _load("_C_cuda") if torch.version.cuda else "this torch has no CUDA; install a CUDA build of torch"
"""Why there are no CUDA kernels, empty if there are."""
