"""What would run here, op by op, and what is missing: for ``doctor``, bug reports and benchmark records."""

import torch

from diffexplain_fast.environment import default_device
from diffexplain_fast.ops._impl import OFFERED, TRITON_MISSING, choose
from diffexplain_fast.ops._load import CPP_MISSING, CUDA_MISSING

_TORCH_CALLS = ("conv2d_frozen", "linear_frozen", "resize_normalize")
"""Ops without implementations of their own: cuDNN, oneDNN or a BLAS answers through torch."""


def implementations() -> list[dict[str, str]]:
    """Return a row per op: "op", the "implementation" that ``impl="auto"`` runs for float32 here, and the "reason"."""
    choices = {op: choose(op, "auto", default_device(), torch.float32) for op in OFFERED}
    rows = [{"op": op, "implementation": choice.impl, "reason": choice.reason} for op, choice in choices.items()]
    reason = "the op is calls of torch"
    return rows + [{"op": op, "implementation": "torch", "reason": reason} for op in _TORCH_CALLS]


def kernel_status() -> dict[str, str]:
    """Return for each kind of kernel whether it is there, or what is missing and how to get it."""
    return {
        "Triton kernels": TRITON_MISSING or "there, for CUDA devices",
        "CUDA kernels": CUDA_MISSING or "loaded",
        "C++ kernels": CPP_MISSING or "loaded",
    }
