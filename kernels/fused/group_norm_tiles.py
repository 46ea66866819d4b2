"""Tiles of GroupNorm over channels-last pixels: where they lie, how they are read, and what each element becomes.

A tile is [BLOCK_P, BLOCK_C]: pixels of one image, and channels of [x, skip].
"""

import math

import triton
import triton.language as tl
from diffexplain_fast.kernels.primitives import sigmoid, unravel

MINUS_LOG2_E = tl.constexpr(-math.log2(math.e))


@triton.jit
def quick_sigmoid(v):
    """Return 1 / (1 + exp(-v)), a few units of float32's last digit away, in five instructions instead of fifteen.

    A division and an exponential are several instructions each; 1 / x is rsqrt(x)^2 where x is not negative.
    """
    root = tl.rsqrt(1.0 + tl.exp2(v * MINUS_LOG2_E))
    return root * root


@triton.jit
def silu_factor(v, EXACT: tl.constexpr):
    """Return the sigmoid of v, in all digits if EXACT, which is for float32."""
    if EXACT:
        return sigmoid(v)
    else:
        return quick_sigmoid(v)


@triton.jit
def groups_of(offs_c, C, GROUPS):
    """Return the group of each channel [BLOCK_C]: a product, because a GPU divides whole numbers slowly."""
    return ((offs_c.to(tl.float32) + 0.5) * (GROUPS / C)).to(tl.int32)


@triton.jit
def load_u(x_ptr, skip_ptr, rows, offs_c, mask, C1, C2, HAS_SKIP: tl.constexpr):
    """Return the tile [BLOCK_P, BLOCK_C] of [x, skip] at rows and channels, without writing the concatenation."""
    in_x = (offs_c < C1)[None, :]
    u = tl.load(x_ptr + rows[:, None] * C1 + offs_c[None, :], mask=mask & in_x, other=0.0)
    if HAS_SKIP:
        offs_skip = rows[:, None] * C2 + (offs_c - C1)[None, :]
        u = tl.where(in_x, u, tl.load(skip_ptr + offs_skip, mask=mask & (offs_c >= C1)[None, :], other=0.0))
    return u


@triton.jit
def place(P, C, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    """Return the image of this program, the first pixel and the first channel of its tile."""
    pid_n, pid_p, pid_c = unravel(tl.program_id(0), tl.cdiv(C, BLOCK_C), tl.cdiv(P, BLOCK_P))
    return pid_n.to(tl.int64), pid_p * BLOCK_P, pid_c * BLOCK_C


@triton.jit
def tile_at(pid_n, first_p, offs_c, P, C, BLOCK_P: tl.constexpr):
    """Return the rows [BLOCK_P] of a tile and its mask [BLOCK_P, BLOCK_C].

    A row is a pixel of all images: image * P + pixel.
    """
    offs_p = first_p + tl.arange(0, BLOCK_P)
    return pid_n * P + offs_p, (offs_p < P)[:, None] & (offs_c < C)[None, :]


@triton.jit
def load_statistics(mean_ptr, rstd_ptr, pid_n, offs_c, C, GROUPS):
    """Return mean and rstd [N, GROUPS] of each channel's group, [BLOCK_C] each."""
    offs_g = pid_n * GROUPS + groups_of(offs_c, C, GROUPS)
    mean = tl.load(mean_ptr + offs_g, mask=offs_c < C, other=0.0)
    return mean, tl.load(rstd_ptr + offs_g, mask=offs_c < C, other=0.0)


@triton.jit
def load_channels(
    shift_ptr, weight_ptr, bias_ptr, pid_n, offs_c, C, SHIFT_STEP, dtype: tl.constexpr, HAS_SHIFT: tl.constexpr
):  # fmt: skip
    """Return shift, weight and bias, [BLOCK_C] each, of the pointers of ``group_norm_silu_fwd_kernel``."""
    mask = offs_c < C
    weight = tl.load(weight_ptr + offs_c, mask=mask, other=0.0).to(dtype)
    bias = tl.load(bias_ptr + offs_c, mask=mask, other=0.0).to(dtype)
    shift = tl.zeros_like(weight)
    if HAS_SHIFT:
        shift = tl.load(shift_ptr + pid_n * SHIFT_STEP + offs_c, mask=mask, other=0.0).to(dtype)
    return shift, weight, bias


@triton.jit
def normalised(u, shift, weight, bias, mean, rstd, HAS_SHIFT: tl.constexpr):
    """Return n and v of a tile u [BLOCK_P, BLOCK_C]; the other arguments are [BLOCK_C]."""
    u = u.to(mean.dtype)
    if HAS_SHIFT:
        u += shift[None, :]
    n = (u - mean[None, :]) * rstd[None, :]
    return n, n * weight[None, :] + bias[None, :]


@triton.jit
def silu_gradient(dy, v, SILU: tl.constexpr, EXACT: tl.constexpr):
    """Return dv [BLOCK_P, BLOCK_C] from dy and v of the same shape."""
    if SILU:
        s = silu_factor(v, EXACT)
        dy *= s * (1.0 + v * (1.0 - s))
    return dy
