"""The settings of torch that decide which kernels run: a recording holds its kernels, and not these settings."""

import sys
from collections.abc import Callable, Hashable

import torch
import torch.nn.attention

_NAMES = (
    "blas_preferred_backend",
    "cublas_allow_bf16_reduced_precision_reduction",
    "cublas_allow_fp16_accumulation",
    "cublas_allow_fp16_reduced_precision_reduction",
    "cudnn_depthwise_kernel",
    "cudnn_deterministic",
    "cudnn_enabled",
    "cudnn_sdp_enabled",
    "deterministic_algorithms",
    "deterministic_algorithms_warn_only",
    "deterministic_fill_uninitialized_memory",
    "fa3_sdp_enabled",
    "flash_sdp_enabled",
    "linalg_preferred_backend",
    "math_sdp_allow_fp16_bf16_reduction",
    "math_sdp_enabled",
    "mem_efficient_sdp_enabled",
    "miopen_immediate",
    "overrideable_sdp_enabled",
    "rocm_fa_preferred_backend",
    "sdp_priority_order",
    "sm_carveout_experimental",
)
"""Names of torch's getters, without ``_get_``; a version of torch may lack some. cuDNN's search is not one of the
settings, because every recording searches."""
_GETTERS: tuple[Callable[[], object], ...] = tuple(
    getattr(torch._C, f"_get_{name}") for name in _NAMES if hasattr(torch._C, f"_get_{name}")
)
_PRECISIONS = (("generic", "all"), ("cuda", "all"), ("cuda", "matmul"), ("cuda", "conv"), ("cuda", "rnn"))
"""Where torch may be told to compute in TF32 in place of float32. ``allow_tf32`` reads and writes the same settings."""


def kernel_settings(device: torch.device) -> Hashable:
    """Return all settings of torch that decide which kernels a call on a device runs, and in which precision.

    Args:
        device: device of the call's tensors.
    """
    kind = device.type
    return (
        *(tuple(value) if isinstance(value := read(), list) else value for read in _GETTERS),
        *(torch._C._get_fp32_precision_getter(*place) for place in _PRECISIONS),
        torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind),
        (torch.get_default_dtype(), torch.get_default_device()),
        (torch.backends.opt_einsum.enabled, torch.backends.opt_einsum.strategy),
        torch.backends.mha.get_fastpath_enabled(),
        (_flash_implementation(), _native_overrides()),
    )


def _flash_implementation() -> Hashable:
    """Return the name of the kernels that torch's flash attention was given, None for its own."""
    named = getattr(torch.nn.attention, "current_flash_attention_impl", None)
    return None if named is None else named()


def _native_overrides() -> Hashable:
    """Return which of torch's own kernels in Triton and CuTe are switched off, which newer versions of torch allow."""
    switched = getattr(sys.modules.get("torch._native.registry"), "_filter_state", None)
    return tuple(frozenset(getattr(switched, name, ())) for name in ("_dsl_names", "_op_symbols", "_dispatch_keys"))
