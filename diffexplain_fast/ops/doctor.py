"""The implementation that runs here for each op, and missing kernels: for ``doctor``, bug reports and benchmarks."""

import torch

from diffexplain_fast.environment import default_device
from diffexplain_fast.ops._impl import OFFERED, TRITON_MISSING, choose
from diffexplain_fast.ops._load import CPP_MISSING, CUDA_MISSING

_TORCH_CALLS = ("conv2d_frozen", "linear_frozen", "resize_normalize")
"""Ops without kernels of this package: they call cuDNN, oneDNN or a BLAS through torch."""


def implementations() -> list[dict[str, str]]:
    """Return a row per op: "op", the "implementation" that "auto" chooses here for float32, and the "reason"."""
    choices = {op: choose(op, "auto", default_device(), torch.float32) for op in OFFERED}
    rows = [{"op": op, "implementation": choice.impl, "reason": choice.reason} for op, choice in choices.items()]
    reason = "the op calls torch"
    return rows + [{"op": op, "implementation": "torch", "reason": reason} for op in _TORCH_CALLS]


def kernel_status() -> dict[str, str]:
    """Return for each kind of kernel whether it is available, or the missing part and how to get it."""
    return {
        "Triton kernels": TRITON_MISSING or "available, for CUDA devices",
        "CUDA kernels": CUDA_MISSING or "loaded",
        "C++ kernels": CPP_MISSING or "loaded",
    }
