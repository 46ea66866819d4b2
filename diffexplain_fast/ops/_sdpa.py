"""Attention by the kernels of torch and xformers, with the arguments of ``ops.attention``."""

import torch
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)
_PLAIN = ("cpu", "meta")
"""Devices on which the log-sum-exp has one number per query; on the meta device, only shapes matter."""
_FLASH_DIMS = 8
"""The flash kernels accept head dimensions up to 256 that are multiples of this number."""


def _flash(q: Tensor) -> bool:
    return q.dtype in _HALF and q.shape[-1] % _FLASH_DIMS == 0 and q.shape[-1] <= 256


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


def xformers_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Return xformers' memory-efficient attention [B, Nq, H, D] with its own backward."""
    from xformers.ops import memory_efficient_attention

    return memory_efficient_attention(q, k, v, scale=scale)
