"""Attention by the kernels of torch, cuDNN and xformers, with the arguments of ``ops.attention``."""

import functools

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import _disable_current_modes

from diffexplain_fast.ops._impl import HALF

_PLAIN = ("cpu", "meta")
"""Devices on which the log-sum-exp has one number per query; on the meta device, only shapes matter."""
_FLASH_DIMS = 8
"""The flash kernels accept head dimensions up to 256 that are multiples of this number; so do cuDNN's at most."""
CUDNN_DIMS = frozenset(range(_FLASH_DIMS, 257, _FLASH_DIMS))
"""All head dimensions that cuDNN's kernels can have; a card and a version of cuDNN may have fewer."""
CUDNN_LSE = 4
"""Number of dimensions of the log-sum-exp that comes from ``cudnn_attention_fwd``; that of others has 3."""
_OWN_DIMS: dict[str, int] = {}
"""By device type the number of dimensions of cuDNN's log-sum-exp, which differs among versions of torch."""


def _flash(q: Tensor) -> bool:
    return q.dtype in HALF and q.shape[-1] % _FLASH_DIMS == 0 and q.shape[-1] <= 256


def attention_fwd(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return o [B, Nq, H, D] and the log-sum-exp [B, H, N] (N at least Nq, padded by some kernels)."""
    aten, heads = torch.ops.aten, [tensor.transpose(1, 2) for tensor in (q, k, v)]
    if q.device.type in _PLAIN:
        o, lse = aten._scaled_dot_product_flash_attention_for_cpu(*heads, scale=scale)
    elif _flash(q):
        o, lse = aten._scaled_dot_product_flash_attention(*heads, scale=scale)[:2]
    else:
        o, lse = aten._scaled_dot_product_efficient_attention(*heads, None, True, scale=scale)[:2]
    return o.transpose(1, 2), lse


def attention_bwd(
    do: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dq, dk and dv from the results of ``attention_fwd`` and the gradient of o."""
    aten = torch.ops.aten
    dos, qs, ks, vs, os = (tensor.transpose(1, 2) for tensor in (do, q, k, v, o))
    if q.device.type in _PLAIN:
        grads = aten._scaled_dot_product_flash_attention_for_cpu_backward(
            dos, qs, ks, vs, os, lse, 0.0, False, scale=scale
        )
    elif _flash(q):
        no_dropout = torch.empty(2, dtype=torch.uint64, device=q.device)
        lengths = (None, None, q.shape[1], k.shape[1], 0.0, False, no_dropout, no_dropout)
        grads = aten._scaled_dot_product_flash_attention_backward(dos, qs, ks, vs, os, lse, *lengths, scale=scale)
    else:
        no_dropout = torch.empty((), dtype=torch.int64, device=q.device)
        rest = (no_dropout, no_dropout, 0.0, [True, True, True, False])
        grads = aten._scaled_dot_product_efficient_attention_backward(
            dos, qs, ks, vs, None, os, lse, *rest, scale=scale
        )
    dq, dk, dv = (grad.transpose(1, 2) for grad in grads[:3])
    return dq, dk, dv


def cudnn_attention_fwd(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return o [B, Nq, H, D] and the log-sum-exp [B, H, Nq, 1]; that of other kernels has three dimensions."""
    heads = [tensor.transpose(1, 2) for tensor in (q, k, v)]
    o, lse = torch.ops.aten._scaled_dot_product_cudnn_attention(*heads, None, True, scale=scale)[:2]
    _OWN_DIMS[q.device.type] = lse.ndim
    return o.transpose(1, 2), lse if lse.ndim == CUDNN_LSE else lse[..., None]


def cudnn_attention_bwd(
    do: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dq, dk and dv from the results of ``cudnn_attention_fwd`` and the gradient of o.

    They are summed in any order, so equal calls may differ by rounding.
    """
    heads = [tensor.transpose(1, 2) for tensor in (do, q, k, v, o)]
    own_lse = lse if _OWN_DIMS[q.device.type] == CUDNN_LSE else lse[..., 0]
    no_dropout = torch.empty((), dtype=torch.int64, device=q.device)
    rest = (no_dropout, no_dropout, None, None, None, q.shape[1], k.shape[1], 0.0, False)
    grads = torch.ops.aten._scaled_dot_product_cudnn_attention_backward(*heads, own_lse, *rest, scale=scale)
    dq, dk, dv = (grad.transpose(1, 2) for grad in grads)
    return dq, dk, dv


def cudnn_allowed() -> bool:
    """Return whether the user's settings of torch allow cuDNN's attention, whose backward is not deterministic."""
    fixed = torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
    return torch.backends.cuda.cudnn_sdp_enabled() and not fixed


def cudnn_runs(columns: int, keys: int, device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether torch's rules let cuDNN compute attention and its gradient now; on the meta device, if they can.

    Args:
        columns: head dimension.
        keys: number of keys.
        device: device of the tensors.
        dtype: dtype of the tensors.
    """
    if device.type != "cuda":
        return columns in CUDNN_DIMS
    probe = _probe(columns, keys, device, dtype)
    with torch.enable_grad():
        return torch.backends.cuda.can_use_cudnn_attention(
            torch.backends.cuda.SDPAParams(probe, probe, probe, None, 0.0, False, False)
        )


@functools.cache
def cudnn_preferred(device: torch.device, dtype: torch.dtype) -> frozenset[int]:
    """Return the head dimensions for which torch's own attention prefers cuDNN's kernels, as far as it may use them.

    torch prefers them on GPUs of compute capability 9 and 10, with a version of cuDNN without known errors.
    """
    if device.type != "cuda" or dtype not in HALF:
        return frozenset()
    every = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    held = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    # The result is kept, so it must depend neither on settings that may change nor on a mode that traces this call.
    with _disable_current_modes(), sdpa_kernel(every), torch.enable_grad():
        torch._C._set_deterministic_algorithms(False)
        try:
            probes = ((columns, _probe(columns, 2, device, dtype)) for columns in sorted(CUDNN_DIMS))
            chosen = {columns: torch._fused_sdp_choice(probe, probe, probe) for columns, probe in probes}
        finally:
            torch._C._set_deterministic_algorithms(held[0], warn_only=held[1])
    return frozenset(columns for columns, choice in chosen.items() if choice == SDPBackend.CUDNN_ATTENTION.value)


def _probe(columns: int, keys: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return a small tensor [1, 1, N, D] for torch's rules, which tell apart only one key from more."""
    return torch.empty(1, 1, min(keys, 2), columns, device=device, dtype=dtype, requires_grad=True)


def xformers_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Return xformers' memory-efficient attention [B, Nq, H, D] with its own backward."""
    from xformers.ops import memory_efficient_attention

    return memory_efficient_attention(q, k, v, scale=scale)
