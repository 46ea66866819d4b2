"""GEGLU: y = value gate Phi(gate), Phi(g) = (1 + erf(g / sqrt 2)) / 2, of the packed h = (value | gate).

dvalue = dy gate Phi(gate), dgate = dy value (Phi(gate) + gate phi(gate)), phi the normal density.
Source: Shazeer, GLU Variants Improve Transformer (arXiv 2002.05202), eq. 5; GELU by the error function, not by tanh.
"""

import math

import torch
import triton
import triton.language as tl
from diffexplain_fast.kernels.configs import launch
from torch import Tensor

_SQRT_HALF = tl.constexpr(math.sqrt(0.5))
_DENSITY_AT_0 = tl.constexpr(1 / math.sqrt(2 * math.pi))


@triton.jit
def _normal_cdf(gate):
    return 0.5 * (1.0 + tl.erf(gate * _SQRT_HALF))


@triton.jit
def _tile(R, D, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr):
    """Return rows [BLOCK_R, 1] and columns [1, BLOCK_D] of this program, and a mask of the existing elements."""
    blocks = tl.cdiv(D, BLOCK_D)
    pid = tl.program_id(0)
    offs_r = (pid // blocks).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    offs_d = pid % blocks * BLOCK_D + tl.arange(0, BLOCK_D)
    return offs_r[:, None], offs_d[None, :], (offs_r < R)[:, None] & (offs_d < D)[None, :]


@triton.jit
def geglu_fwd_kernel(h_ptr, y_ptr, R, D, DOUBLE: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr):
    """Store y [R, D] of h [R, 2D]."""
    dtype = tl.float64 if DOUBLE else tl.float32
    offs_r, offs_d, mask = _tile(R, D, BLOCK_R, BLOCK_D)
    offs_h = offs_r * (2 * D) + offs_d
    value = tl.load(h_ptr + offs_h, mask=mask, other=0.0).to(dtype)  # [BLOCK_R, BLOCK_D]
    gate = tl.load(h_ptr + offs_h + D, mask=mask, other=0.0).to(dtype)  # [BLOCK_R, BLOCK_D]
    y = value * gate * _normal_cdf(gate)
    tl.store(y_ptr + offs_r * D + offs_d, y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def geglu_bwd_kernel(dy_ptr, h_ptr, dh_ptr, R, D, DOUBLE: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr):
    """Store dh [R, 2D] of dy [R, D] and h [R, 2D]."""
    dtype = tl.float64 if DOUBLE else tl.float32
    offs_r, offs_d, mask = _tile(R, D, BLOCK_R, BLOCK_D)
    offs_h = offs_r * (2 * D) + offs_d
    value = tl.load(h_ptr + offs_h, mask=mask, other=0.0).to(dtype)  # [BLOCK_R, BLOCK_D]
    gate = tl.load(h_ptr + offs_h + D, mask=mask, other=0.0).to(dtype)  # [BLOCK_R, BLOCK_D]
    dy = tl.load(dy_ptr + offs_r * D + offs_d, mask=mask, other=0.0).to(dtype)  # [BLOCK_R, BLOCK_D]
    cdf = _normal_cdf(gate)
    dvalue = dy * gate * cdf
    dgate = dy * value * (cdf + gate * _DENSITY_AT_0 * tl.exp(-0.5 * gate * gate))
    tl.store(dh_ptr + offs_h, dvalue.to(dh_ptr.dtype.element_ty), mask=mask)
    tl.store(dh_ptr + offs_h + D, dgate.to(dh_ptr.dtype.element_ty), mask=mask)


def geglu_fwd(h: Tensor) -> Tensor:
    """Return y [R, D] of h [R, 2D], contiguous."""
    y = torch.empty((h.shape[0], h.shape[1] // 2), dtype=h.dtype, device=h.device)
    _launch(geglu_fwd_kernel, y, h_ptr=h, y_ptr=y)
    return y


def geglu_bwd(dy: Tensor, h: Tensor) -> Tensor:
    """Return dh [R, 2D] of dy [R, D] and h [R, 2D], contiguous."""
    dh = torch.empty_like(h)
    _launch(geglu_bwd_kernel, dy, dy_ptr=dy, h_ptr=h, dh_ptr=dh)
    return dh


def _launch(kernel: triton.JITFunction, y: Tensor, **pointers: Tensor) -> None:
    rows, columns = y.shape
    launch(
        "geglu",
        kernel,
        lambda meta: (triton.cdiv(rows, meta["BLOCK_R"]) * triton.cdiv(columns, meta["BLOCK_D"]),),
        key=("D",),
        **pointers,
        R=rows,
        D=columns,
        DOUBLE=y.dtype == torch.float64,
    )
