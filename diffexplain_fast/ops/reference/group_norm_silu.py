"""GroupNorm and SiLU written out: sums in float32, or in float64 for float64; statistics in float64."""

import torch
from torch import Tensor

from diffexplain_fast.ops.reference._statistics import statistics


def _normalised(u: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
    """Return n = (u - mean) rstd and v = n w + b, both [N, C, H, W] in the dtype of the statistics."""
    rows = _grouped(u, mean.shape[1])
    n = ((rows - mean[:, :, None]) * rstd[:, :, None]).reshape(u.shape)
    return n, n * weight.to(u.dtype)[:, None, None] + bias.to(u.dtype)[:, None, None]


def _grouped(u: Tensor, num_groups: int) -> Tensor:
    """Return [N, G, elements of a group]; a size of -1 would fail, because a batch may be empty."""
    return u.reshape(u.shape[0], num_groups, u.shape[1:].numel() // num_groups)


def _joined(x: Tensor, skip: Tensor | None, shift: Tensor | None, dtype: torch.dtype) -> Tensor:
    u = (x if skip is None else torch.cat([x, skip], 1)).to(dtype)
    return u if shift is None else u + shift.to(dtype)[:, :, None, None]


def group_norm_silu_fwd(
    x: Tensor,
    skip: Tensor | None,
    shift: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    num_groups: int,
    eps: float,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y [N, C, H, W] channels-last, and mean and rstd [N, G]: see ``ops.group_norm_silu``."""
    u = _joined(x, skip, shift, torch.promote_types(x.dtype, torch.float32))
    mean, rstd = statistics(_grouped(u, num_groups), eps)
    _, v = _normalised(u, weight, bias, mean, rstd)
    y = v * v.sigmoid() if silu else v
    # Always a copy: for a .contiguous() without effect, torch 2.11 compiles a gradient of zero.
    return y.to(x.dtype, memory_format=torch.channels_last, copy=True), mean, rstd


def group_norm_silu_bwd(
    dy: Tensor,
    x: Tensor,
    skip: Tensor | None,
    shift: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    rstd: Tensor,
    num_groups: int,
    silu: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and skip; the second is empty if skip is None.

    With v = n w + b: dv = dy s (1 + v (1 - s)) where s = sigmoid(v), dn = dv w, and
    du = rstd (dn - mean(dn) - n mean(dn n)), means over each group.
    """
    n, v = _normalised(_joined(x, skip, shift, mean.dtype), weight, bias, mean, rstd)
    dv = dy.to(n.dtype)
    if silu:
        s = v.sigmoid()
        dv = dv * s * (1 + v * (1 - s))
    dn = _grouped(dv * weight.to(n.dtype)[:, None, None], num_groups)
    n = n.reshape(dn.shape)
    du = dn - dn.mean(-1, keepdim=True) - n * (dn * n).mean(-1, keepdim=True)
    du = (du * rstd[:, :, None]).reshape(dy.shape).to(x.dtype)
    dx = du[:, : x.shape[1]].contiguous(memory_format=torch.channels_last)
    if skip is None:
        return dx, x.new_empty(0)
    return dx, du[:, x.shape[1] :].contiguous(memory_format=torch.channels_last)
