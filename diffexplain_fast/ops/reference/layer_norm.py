"""LayerNorm over the last dimension written out, with statistics in float64."""

import torch
from torch import Tensor

from diffexplain_fast.ops.reference._statistics import statistics


def layer_norm_fwd(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return y [R, D], and mean and rstd [R]: see ``ops.layer_norm``."""
    u = x.to(torch.promote_types(x.dtype, torch.float32))
    mean, rstd = statistics(u, eps)
    y = (u - mean[:, None]) * rstd[:, None] * weight.to(u.dtype) + bias.to(u.dtype)
    # For a .to() without effect, torch 2.11 compiles a gradient of zero.
    return y if y.dtype == x.dtype else y.to(x.dtype), mean, rstd


def layer_norm_bwd(dy: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    """Return dx = rstd (dn - mean(dn) - n mean(dn n)) with n = (x - mean) rstd and dn = dy w, means over D."""
    n = (x.to(mean.dtype) - mean[:, None]) * rstd[:, None]
    dn = dy.to(n.dtype) * weight.to(n.dtype)
    dx = dn - dn.mean(-1, keepdim=True) - n * (dn * n).mean(-1, keepdim=True)
    return (dx * rstd[:, None]).to(x.dtype)
