"""GEGLU written out, with the exact error function."""

import math

import torch
from torch import Tensor


def _halves(h: Tensor) -> tuple[Tensor, Tensor]:
    value, gate = h.to(torch.promote_types(h.dtype, torch.float32)).chunk(2, -1)
    return value, gate


def _normal_cdf(gate: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(gate * math.sqrt(0.5)))


def geglu_fwd(h: Tensor) -> Tensor:
    """Return value gate Phi(gate) [R, D] of h [R, 2D] = (value, gate): see ``ops.geglu``."""
    value, gate = _halves(h)
    y = value * gate * _normal_cdf(gate)
    # For a .to() without effect, torch 2.11 compiles a gradient of zero.
    return y if y.dtype == h.dtype else y.to(h.dtype)


def geglu_bwd(dy: Tensor, h: Tensor) -> Tensor:
    """Return dh = (dy gate Phi(gate), dy value (Phi(gate) + gate phi(gate))), phi the normal density."""
    value, gate = _halves(h)
    cdf, density = _normal_cdf(gate), torch.exp(-0.5 * gate.square()) / math.sqrt(2 * math.pi)
    dy = dy.to(value.dtype)
    return torch.cat([dy * gate * cdf, dy * value * (cdf + gate * density)], -1).to(h.dtype)
