"""Interleaving four phases of an image: y[:, :, 2i+a, 2j+b] = parts[:, (2a+b)C : (2a+b+1)C, i, j].

In channels-last layout, input pixel (i, j) holds [a, b, c] and output line 2i+a holds [j, b, c]: the kernels move whole
runs of 2C elements.
Source: Shi et al., sub-pixel convolution (arXiv 1609.05158), eq. 4.
"""

import torch
import triton
import triton.language as tl
from diffexplain_fast.kernels.configs import launch
from torch import Tensor


@triton.jit
def _offsets(P, H, W, C2, INNER: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    """Return the offsets of a tile in parts and in y, and the masks of both, each [BLOCK_P, BLOCK_C]; C2 is 2C.

    A tile spans pixels of all images and the channels (a, b, c) of parts. If INNER, y lacks the outermost pixels.
    """
    blocks = tl.cdiv(2 * C2, BLOCK_C)
    pid = tl.program_id(0)
    offs_p = (pid // blocks).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    offs_c = pid % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    line = offs_p // W  # of all images
    a = offs_c // C2
    run = (offs_c - a * C2)[None, :]
    offs_parts = offs_p[:, None] * (2 * C2) + offs_c[None, :]
    mask = (offs_p < P)[:, None] & (offs_c < 2 * C2)[None, :]
    if INNER:
        image = line // H
        y_line = 2 * (line - image * H)[:, None] + a[None, :] - 1
        in_line = (offs_p - line * W)[:, None] * C2 + run - C2 // 2
        length = (W - 1) * C2  # of a line of y
        mask_y = mask & (y_line >= 0) & (y_line < 2 * H - 2) & (in_line >= 0) & (in_line < length)
        return offs_parts, (image[:, None] * (2 * H - 2) + y_line) * length + in_line, mask, mask_y
    else:
        return offs_parts, ((line * W + offs_p)[:, None] + (a * W)[None, :]) * C2 + run, mask, mask


@triton.jit
def interleave_fwd_kernel(
    parts_ptr, y_ptr, P, H, W, C2, INNER: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Copy parts [N, H, W, 4C] to y [N, 2H, 2W, C], or to y [N, 2H - 2, 2W - 2, C] if INNER; P is N * H * W."""
    offs_parts, offs_y, mask, mask_y = _offsets(P, H, W, C2, INNER, BLOCK_P, BLOCK_C)
    tl.store(y_ptr + offs_y, tl.load(parts_ptr + offs_parts, mask=mask), mask=mask_y)


@triton.jit
def interleave_bwd_kernel(
    parts_ptr, y_ptr, P, H, W, C2, INNER: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Copy y [N, 2H, 2W, C], or [N, 2H - 2, 2W - 2, C] and zeros around, to parts [N, H, W, 4C]; P is N * H * W."""
    offs_parts, offs_y, mask, mask_y = _offsets(P, H, W, C2, INNER, BLOCK_P, BLOCK_C)
    tl.store(parts_ptr + offs_parts, tl.load(y_ptr + offs_y, mask=mask_y, other=0.0), mask=mask)


def interleave_fwd(parts: Tensor) -> Tensor:
    """Return y [N, C, 2H, 2W] of parts [N, 4C, H, W], both channels-last."""
    return _forward(parts, 0)


def interleave_inner_fwd(parts: Tensor) -> Tensor:
    """Return the same without the outermost pixels, [N, C, 2H - 2, 2W - 2], for H and W of at least 2."""
    return _forward(parts, 1)


def interleave_bwd(dy: Tensor) -> Tensor:
    """Return dparts [N, 4C, H, W] of dy [N, C, 2H, 2W], both channels-last."""
    return _backward(dy, 0)


def interleave_inner_bwd(dy: Tensor) -> Tensor:
    """Return the same of dy [N, C, 2H - 2, 2W - 2]; the outermost pixels are zeros."""
    return _backward(dy, 1)


def _forward(parts: Tensor, margin: int) -> Tensor:
    n, channels, height, width = parts.shape
    shape = (n, channels // 4, 2 * (height - margin), 2 * (width - margin))
    y = torch.empty(shape, dtype=parts.dtype, device=parts.device, memory_format=torch.channels_last)
    _move(interleave_fwd_kernel, parts, y)
    return y


def _backward(dy: Tensor, margin: int) -> Tensor:
    n, channels, height, width = dy.shape
    shape = (n, 4 * channels, height // 2 + margin, width // 2 + margin)
    dparts = torch.empty(shape, dtype=dy.dtype, device=dy.device, memory_format=torch.channels_last)
    _move(interleave_bwd_kernel, dparts, dy)
    return dparts


def _move(kernel: triton.JITFunction, parts: Tensor, y: Tensor) -> None:
    n, channels, height, width = parts.shape
    pixels = n * height * width
    launch(
        "interleave",
        kernel,
        lambda meta: (triton.cdiv(pixels, meta["BLOCK_P"]) * triton.cdiv(channels, meta["BLOCK_C"]),),
        key=("C2",),
        parts_ptr=parts,
        y_ptr=y,
        P=pixels,
        H=height,
        W=width,
        C2=channels // 2,
        INNER=y.shape[2] < 2 * height,
    )
