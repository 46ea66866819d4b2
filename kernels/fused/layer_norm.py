"""LayerNorm over the last dimension: y = n weight + bias, n = (x - mean) rstd, frozen weights.

dx = rstd (dn - mean(dn) - n mean(dn n)), dn = dy weight. Source: Ba, Kiros, Hinton (arXiv 1607.06450), eq. 4.
A program holds whole rows, each as two powers of two, so that no lane idles at 320, 640 and 1280 columns (256 + 64 and
so on).
"""

import torch
import triton
import triton.language as tl
from diffexplain_fast.kernels.configs import Argument, launch
from diffexplain_fast.kernels.primitives import finite_rsqrt
from torch import Tensor

_TILES = {"layer_norm_fwd": 1024, "layer_norm_bwd": 512, "layer_norm_bwd_wide": 1024}
"""Number of elements of a program's main tile by the entry of the table of configurations, measured with its warps."""
_WIDE = 2048
"""Columns from which on one warp would have too few registers for the backward of a row."""


@triton.jit
def _columns(D, BLOCK_D: tl.constexpr, BLOCK_REST: tl.constexpr):
    """Return the main columns [1, BLOCK_D], which all exist, and the rest [1, BLOCK_REST] with its mask."""
    rest = BLOCK_D + tl.arange(0, BLOCK_REST)
    return tl.arange(0, BLOCK_D)[None, :], rest[None, :], (rest < D)[None, :]


@triton.jit
def _copied(x_ptr, offset_ptr, copy_ptr, rows, offs, mask, mask_columns, dtype: tl.constexpr, HAS_COPY: tl.constexpr):
    """Return a tile of x [BLOCK_R, columns] in the dtype of the statistics; if HAS_COPY, store x + offset.

    rows is [BLOCK_R, 1], offs and mask_columns are [1, columns].
    """
    x = tl.load(x_ptr + rows + offs, mask=mask, other=0.0).to(dtype)
    if HAS_COPY:
        copy = x + tl.load(offset_ptr + offs, mask=mask_columns, other=0.0).to(dtype)
        tl.store(copy_ptr + rows + offs, copy.to(copy_ptr.dtype.element_ty), mask=mask)
    return x


@triton.jit
def layer_norm_fwd_kernel(
    x_ptr,  # [R, D]
    weight_ptr,  # [D]
    bias_ptr,  # [D]
    offset_ptr,  # [D]
    copy_ptr,  # [R, D], where x + offset is stored if HAS_COPY
    y_ptr,  # [R, D]
    mean_ptr,  # [R]
    rstd_ptr,  # [R]
    R,
    D,
    EPS: tl.constexpr,
    HAS_COPY: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_REST: tl.constexpr,
):
    dtype = mean_ptr.dtype.element_ty
    offs_r = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    mask_r = offs_r < R
    offs_d, offs_e, mask_e = _columns(D, BLOCK_D, BLOCK_REST)
    rows, mask, mask_rest = offs_r[:, None] * D, mask_r[:, None], mask_r[:, None] & mask_e
    x = _copied(x_ptr, offset_ptr, copy_ptr, rows, offs_d, mask, offs_d < D, dtype, HAS_COPY)  # [BLOCK_R, BLOCK_D]
    rest = _copied(x_ptr, offset_ptr, copy_ptr, rows, offs_e, mask_rest, mask_e, dtype, HAS_COPY)  # [.., BLOCK_REST]
    mean = (tl.sum(x, 1) + tl.sum(rest, 1)) / D  # [BLOCK_R]
    x -= mean[:, None]
    rest = tl.where(mask_rest, rest - mean[:, None], 0.0)
    rstd = finite_rsqrt((tl.sum(x * x, 1) + tl.sum(rest * rest, 1)) / D + EPS)
    tl.store(mean_ptr + offs_r, mean, mask=mask_r)
    tl.store(rstd_ptr + offs_r, rstd, mask=mask_r)
    y = x * rstd[:, None] * tl.load(weight_ptr + offs_d).to(dtype) + tl.load(bias_ptr + offs_d).to(dtype)
    tl.store(y_ptr + rows + offs_d, y.to(y_ptr.dtype.element_ty), mask=mask)
    weight = tl.load(weight_ptr + offs_e, mask=mask_e, other=0.0).to(dtype)
    y = rest * rstd[:, None] * weight + tl.load(bias_ptr + offs_e, mask=mask_e, other=0.0).to(dtype)
    tl.store(y_ptr + rows + offs_e, y.to(y_ptr.dtype.element_ty), mask=mask_rest)


@triton.jit
def _bwd_terms(dy_ptr, x_ptr, weight_ptr, rows, offs, mask, mask_columns, mean, rstd):
    """Return n and dn of a tile [BLOCK_R, columns]; dn is 0 for elements that do not exist, so sums need no mask.

    rows, mean and rstd are [BLOCK_R, 1], offs and mask_columns [1, columns].
    """
    dtype = mean.dtype
    x = tl.load(x_ptr + rows + offs, mask=mask, other=0.0).to(dtype)
    dy = tl.load(dy_ptr + rows + offs, mask=mask, other=0.0).to(dtype)
    weight = tl.load(weight_ptr + offs, mask=mask_columns, other=0.0).to(dtype)
    return (x - mean) * rstd, dy * weight


@triton.jit
def layer_norm_bwd_kernel(
    dy_ptr,  # [R, D]
    x_ptr,  # [R, D]
    weight_ptr,  # [D]
    mean_ptr,  # [R]
    rstd_ptr,  # [R]
    more_ptr,  # [R, D], added to dx if HAS_MORE
    dx_ptr,  # [R, D]
    R,
    D,
    HAS_MORE: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_REST: tl.constexpr,
):
    offs_r = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    mask_r = offs_r < R
    offs_d, offs_e, mask_e = _columns(D, BLOCK_D, BLOCK_REST)
    rows, mask, mask_rest = offs_r[:, None] * D, mask_r[:, None], mask_r[:, None] & mask_e
    mean = tl.load(mean_ptr + offs_r, mask=mask_r, other=0.0)[:, None]  # [BLOCK_R, 1]
    rstd = tl.load(rstd_ptr + offs_r, mask=mask_r, other=0.0)[:, None]  # [BLOCK_R, 1]
    n, dn = _bwd_terms(dy_ptr, x_ptr, weight_ptr, rows, offs_d, mask, offs_d < D, mean, rstd)
    n_rest, dn_rest = _bwd_terms(dy_ptr, x_ptr, weight_ptr, rows, offs_e, mask_rest, mask_e, mean, rstd)
    mean_dn = ((tl.sum(dn, 1) + tl.sum(dn_rest, 1)) / D)[:, None]
    mean_dn_n = ((tl.sum(dn * n, 1) + tl.sum(dn_rest * n_rest, 1)) / D)[:, None]
    dx = rstd * (dn - mean_dn - n * mean_dn_n)
    if HAS_MORE:
        dx += tl.load(more_ptr + rows + offs_d, mask=mask, other=0.0).to(dx.dtype)
    tl.store(dx_ptr + rows + offs_d, dx.to(dx_ptr.dtype.element_ty), mask=mask)
    dx = rstd * (dn_rest - mean_dn - n_rest * mean_dn_n)
    if HAS_MORE:
        dx += tl.load(more_ptr + rows + offs_e, mask=mask_rest, other=0.0).to(dx.dtype)
    tl.store(dx_ptr + rows + offs_e, dx.to(dx_ptr.dtype.element_ty), mask=mask_rest)


def blocks(columns: int, entry: str) -> dict[str, int]:
    """Return the block sizes for rows of ``columns``: the largest power of two inside a row, and one for the rest.

    Args:
        columns: length of a row.
        entry: of the table of configurations.
    """
    main = 1 << (columns.bit_length() - 1)
    rest = triton.next_power_of_2(max(columns - main, 1))
    return {"BLOCK_R": max(1, _TILES[entry] // main), "BLOCK_D": main, "BLOCK_REST": rest}


def layer_norm_fwd(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return y [R, D], and mean and rstd [R] in float32, of x [R, D]."""
    return _forward(x, weight, bias, eps, None, x)


def layer_norm_fwd_copy(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, offset: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the same, and x + offset [R, D], rounded once; offset is [D]."""
    copy = torch.empty_like(x)
    return *_forward(x, weight, bias, eps, offset.contiguous(), copy), copy


def _forward(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, offset: Tensor | None, copy: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    y = torch.empty_like(x)
    mean = torch.empty(len(x), dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    rstd = torch.empty_like(mean)
    tensors = {"x_ptr": x, "weight_ptr": weight.contiguous(), "bias_ptr": bias.contiguous()}
    tensors |= {"offset_ptr": x if offset is None else offset, "copy_ptr": copy}  # neither is touched without offset
    tensors |= {"y_ptr": y, "mean_ptr": mean, "rstd_ptr": rstd}
    _launch("layer_norm_fwd", layer_norm_fwd_kernel, x, **tensors, EPS=eps, HAS_COPY=offset is not None)
    return y, mean, rstd


def layer_norm_bwd(dy: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    """Return dx [R, D] of dy and x [R, D], mean and rstd [R]."""
    return _backward(dy, x, weight, mean, rstd, None)


def layer_norm_bwd_add(dy: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, more: Tensor) -> Tensor:
    """Return dx + more [R, D], rounded once; the other arguments are those of ``layer_norm_bwd``."""
    return _backward(dy, x, weight, mean, rstd, more)


def _backward(dy: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, more: Tensor | None) -> Tensor:
    dx = torch.empty_like(x)
    tensors = {"dy_ptr": dy, "x_ptr": x, "weight_ptr": weight.contiguous(), "mean_ptr": mean, "rstd_ptr": rstd}
    tensors |= {"more_ptr": x if more is None else more, "dx_ptr": dx}  # x is never loaded as it
    entry = "layer_norm_bwd" if x.shape[1] < _WIDE else "layer_norm_bwd_wide"
    _launch(entry, layer_norm_bwd_kernel, x, **tensors, HAS_MORE=more is not None)
    return dx


def _launch(entry: str, kernel: triton.JITFunction, x: Tensor, **arguments: Argument) -> None:
    rows, columns = x.shape
    tile = blocks(columns, entry)
    programs = triton.cdiv(rows, tile["BLOCK_R"])
    launch(entry, kernel, lambda _: (programs,), **arguments, R=rows, D=columns, **tile)
