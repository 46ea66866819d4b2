"""GroupNorm and SiLU of small images in one launch: a program has a group of one image, and reads it again from cache.

Mathematics, arguments and names are those of ``group_norm_silu``, whose two or three launches are for larger images.
"""

import triton
import triton.language as tl
from diffexplain_fast.kernels.group_norm_tiles import silu_factor, silu_gradient
from diffexplain_fast.kernels.primitives import finite_rsqrt


@triton.jit
def _places(start, pid_g, E, D: tl.constexpr, BLOCK_E: tl.constexpr):
    """Return pixel and channel of each element [BLOCK_E] of a group, and a mask of those that exist."""
    offs_e = start + tl.arange(0, BLOCK_E)
    pixel = offs_e // D
    return pixel, pid_g * D + (offs_e - pixel * D), offs_e < E


@triton.jit
def _load_u(
    x_ptr, skip_ptr, shift_ptr, pixel, offs_c, mask, C1, C2, dtype: tl.constexpr,
    HAS_SKIP: tl.constexpr, HAS_SHIFT: tl.constexpr
):  # fmt: skip
    """Return u [BLOCK_E] of one image, to whose first elements the pointers lead."""
    if HAS_SKIP:
        in_x = offs_c < C1
        u = tl.load(x_ptr + pixel * C1 + offs_c, mask=mask & in_x, other=0.0).to(dtype)
        u += tl.load(skip_ptr + pixel * C2 + (offs_c - C1), mask=mask & (offs_c >= C1), other=0.0).to(dtype)
    else:
        u = tl.load(x_ptr + pixel * C1 + offs_c, mask=mask, other=0.0).to(dtype)
    if HAS_SHIFT:
        u += tl.load(shift_ptr + offs_c, mask=mask, other=0.0).to(dtype)
    return u


@triton.jit
def group_norm_silu_whole_fwd_kernel(
    x_ptr, skip_ptr, shift_ptr, weight_ptr, bias_ptr, y_ptr, mean_ptr, rstd_ptr, offset_ptr, copy_ptr, P, C1, C2,
    GROUPS, SHIFT_STEP, EPS: tl.constexpr, D: tl.constexpr, SILU: tl.constexpr, HAS_SKIP: tl.constexpr,
    HAS_SHIFT: tl.constexpr, HAS_COPY: tl.constexpr, BLOCK_E: tl.constexpr
):  # fmt: skip
    """Store y, mean and rstd of one group, which has D channels.

    Reads x [N, P, C1], skip [N, P, C2], shift [N or 1, C], weight and bias [C].
    Writes y [N, P, C], mean and rstd [N, GROUPS]; if HAS_COPY, also u + offset to copy [N, P, C], offset being [C].
    """
    dtype: tl.constexpr = mean_ptr.dtype.element_ty
    pid_n, pid_g = (tl.program_id(0) // GROUPS).to(tl.int64), tl.program_id(0) % GROUPS
    C, E = C1 + C2, P * D
    x_ptr += pid_n * P * C1
    skip_ptr += pid_n * P * C2
    shift_ptr += pid_n * SHIFT_STEP
    # All sums are of u minus the first element of the group, so that even a large common offset costs no digits.
    first = tl.zeros([1], tl.int32)
    origin = tl.sum(
        _load_u(x_ptr, skip_ptr, shift_ptr, first, first + pid_g * D, first == 0, C1, C2, dtype, HAS_SKIP, HAS_SHIFT), 0
    )
    total = tl.zeros([BLOCK_E], dtype)
    for start in range(0, E, BLOCK_E):
        pixel, offs_c, mask = _places(start, pid_g, E, D, BLOCK_E)
        u = _load_u(x_ptr, skip_ptr, shift_ptr, pixel, offs_c, mask, C1, C2, dtype, HAS_SKIP, HAS_SHIFT)
        total += tl.where(mask, u - origin, 0.0)
    middle = tl.sum(total, 0) / E
    mean = origin + middle
    squares = tl.zeros([BLOCK_E], dtype)
    for start in range(0, E, BLOCK_E):
        pixel, offs_c, mask = _places(start, pid_g, E, D, BLOCK_E)
        u = _load_u(x_ptr, skip_ptr, shift_ptr, pixel, offs_c, mask, C1, C2, dtype, HAS_SKIP, HAS_SHIFT)
        centred = tl.where(mask, u - origin - middle, 0.0)
        squares += centred * centred
    rstd = finite_rsqrt(tl.sum(squares, 0) / E + EPS)
    tl.store(mean_ptr + tl.program_id(0), mean)
    tl.store(rstd_ptr + tl.program_id(0), rstd)
    y_ptr += pid_n * P * C
    copy_ptr += pid_n * P * C
    for start in range(0, E, BLOCK_E):
        pixel, offs_c, mask = _places(start, pid_g, E, D, BLOCK_E)
        u = _load_u(x_ptr, skip_ptr, shift_ptr, pixel, offs_c, mask, C1, C2, dtype, HAS_SKIP, HAS_SHIFT)
        if HAS_COPY:
            copy = u + tl.load(offset_ptr + offs_c, mask=mask, other=0.0).to(dtype)
            tl.store(copy_ptr + pixel * C + offs_c, copy.to(copy_ptr.dtype.element_ty), mask=mask)
        weight = tl.load(weight_ptr + offs_c, mask=mask, other=0.0).to(dtype)
        v = (u - mean) * rstd * weight + tl.load(bias_ptr + offs_c, mask=mask, other=0.0).to(dtype)
        if SILU:
            v *= silu_factor(v, x_ptr.dtype.element_ty == tl.float32)
        tl.store(y_ptr + pixel * C + offs_c, v.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _terms(
    dy_ptr, x_ptr, skip_ptr, shift_ptr, weight_ptr, bias_ptr, mean, rstd, pixel, offs_c, mask, C1, C2,
    SILU: tl.constexpr, HAS_SKIP: tl.constexpr, HAS_SHIFT: tl.constexpr
):  # fmt: skip
    """Return n and dn [BLOCK_E]; dn is 0 for elements that do not exist, so sums need no mask."""
    dtype: tl.constexpr = mean.dtype
    u = _load_u(x_ptr, skip_ptr, shift_ptr, pixel, offs_c, mask, C1, C2, dtype, HAS_SKIP, HAS_SHIFT)
    dy = tl.load(dy_ptr + pixel * (C1 + C2) + offs_c, mask=mask, other=0.0).to(dtype)
    weight = tl.load(weight_ptr + offs_c, mask=mask, other=0.0).to(dtype)
    n = (u - mean) * rstd
    v = n * weight + tl.load(bias_ptr + offs_c, mask=mask, other=0.0).to(dtype)
    return n, silu_gradient(dy, v, SILU, x_ptr.dtype.element_ty == tl.float32) * weight


@triton.jit
def group_norm_silu_whole_bwd_kernel(
    dy_ptr, x_ptr, skip_ptr, shift_ptr, weight_ptr, bias_ptr, mean_ptr, rstd_ptr, more_ptr, beside_ptr, dx_ptr,
    dskip_ptr, P, C1, C2, GROUPS, SHIFT_STEP, D: tl.constexpr, SILU: tl.constexpr, HAS_SKIP: tl.constexpr,
    HAS_SHIFT: tl.constexpr, HAS_MORE: tl.constexpr, HAS_BESIDE: tl.constexpr, BLOCK_E: tl.constexpr
):  # fmt: skip
    """Store dx and dskip of one group, which has D channels.

    Reads dy [N, P, C] and what ``group_norm_silu_whole_fwd_kernel`` reads and writes, except y.
    Writes dx [N, P, C1] and dskip [N, P, C2]; more [N, P, C1] is added to dx if HAS_MORE, and beside [N, P, C1] if
    HAS_BESIDE.
    """
    pid_n, pid_g = (tl.program_id(0) // GROUPS).to(tl.int64), tl.program_id(0) % GROUPS
    C, E = C1 + C2, P * D
    dy_ptr += pid_n * P * C
    x_ptr += pid_n * P * C1
    skip_ptr += pid_n * P * C2
    shift_ptr += pid_n * SHIFT_STEP
    mean, rstd = tl.load(mean_ptr + tl.program_id(0)), tl.load(rstd_ptr + tl.program_id(0))
    sums_dn = tl.zeros([BLOCK_E], mean.dtype)
    sums_dn_n = tl.zeros([BLOCK_E], mean.dtype)
    for start in range(0, E, BLOCK_E):
        pixel, offs_c, mask = _places(start, pid_g, E, D, BLOCK_E)
        n, dn = _terms(
            dy_ptr, x_ptr, skip_ptr, shift_ptr, weight_ptr, bias_ptr, mean, rstd, pixel, offs_c, mask, C1, C2,
            SILU, HAS_SKIP, HAS_SHIFT
        )  # fmt: skip
        sums_dn += dn
        sums_dn_n += dn * n
    mean_dn, mean_dn_n = tl.sum(sums_dn, 0) / E, tl.sum(sums_dn_n, 0) / E
    dx_ptr += pid_n * P * C1
    more_ptr += pid_n * P * C1
    beside_ptr += pid_n * P * C1
    dskip_ptr += pid_n * P * C2
    for start in range(0, E, BLOCK_E):
        pixel, offs_c, mask = _places(start, pid_g, E, D, BLOCK_E)
        n, dn = _terms(
            dy_ptr, x_ptr, skip_ptr, shift_ptr, weight_ptr, bias_ptr, mean, rstd, pixel, offs_c, mask, C1, C2,
            SILU, HAS_SKIP, HAS_SHIFT
        )  # fmt: skip
        du = rstd * (dn - mean_dn - n * mean_dn_n)
        if HAS_MORE:
            du += tl.load(more_ptr + pixel * C1 + offs_c, mask=mask & (offs_c < C1), other=0.0).to(du.dtype)
        if HAS_BESIDE:
            du += tl.load(beside_ptr + pixel * C1 + offs_c, mask=mask & (offs_c < C1), other=0.0).to(du.dtype)
        du = du.to(dx_ptr.dtype.element_ty)
        if HAS_SKIP:
            tl.store(dx_ptr + pixel * C1 + offs_c, du, mask=mask & (offs_c < C1))
            tl.store(dskip_ptr + pixel * C2 + (offs_c - C1), du, mask=mask & (offs_c >= C1))
        else:
            tl.store(dx_ptr + pixel * C1 + offs_c, du, mask=mask)
