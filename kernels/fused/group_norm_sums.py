"""GroupNorm's sums over large images: each program sums a chunk of pixels and a block of channels, by group.

A block of WIDTH channels meets at most SLOTS groups, and a group at most PARTS blocks. So a group has PARTS * CHUNKS
partial sums [N, GROUPS, PARTS, CHUNKS], of which those of a block that the group does not meet are never touched. They
are added up in an order that depends only on the shape. Statistics are computed in two passes inside a tile and merged
as in Chan, Golub and LeVeque (1979), eq. 2.1. Mathematics and names are those of ``group_norm_silu``.
"""

import triton
import triton.language as tl
from diffexplain_fast.kernels.group_norm_tiles import (
    groups_of,
    load_channels,
    load_statistics,
    load_u,
    normalised,
    silu_gradient,
    tile_at,
)
from diffexplain_fast.kernels.primitives import finite_rsqrt, unravel


@triton.jit
def groups_at(first_c, offs_c, C, GROUPS, SLOTS: tl.constexpr):
    """Return the groups [SLOTS, 1] that channels [BLOCK_C] from ``first_c`` on may meet.

    Also return which channels are of which group, [SLOTS, BLOCK_C].
    """
    offs_g = first_c // (C // GROUPS) + tl.arange(0, SLOTS)[:, None]
    return offs_g, (groups_of(offs_c, C, GROUPS)[None, :] == offs_g) & (offs_c < C)[None, :]


@triton.jit
def to_channels(values, members):
    """Return for each channel [BLOCK_C] the value [SLOTS, 1] of its group."""
    return tl.sum(tl.where(members, values, 0.0), 0)


@triton.jit
def _to_groups(values, members):
    """Return for each group [SLOTS, 1] the sum of its channels' values [BLOCK_C]."""
    return tl.sum(tl.where(members, values[None, :], 0.0), 1)[:, None]


@triton.jit
def _place_sums(pid_n, offs_g, part, offs_k, GROUPS, CHUNKS, PARTS: tl.constexpr):
    """Return the offsets of groups' [SLOTS, 1] partial sums over chunks [1, BLOCK_K] in a part of their channels."""
    return ((pid_n * GROUPS + offs_g) * PARTS + part) * CHUNKS + offs_k


@triton.jit
def _targets(
    pid_n, pid_k, pid_c, offs_c, C, GROUPS, CHUNKS, SLOTS: tl.constexpr, PARTS: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Return ``groups_at`` a program's channels, the offsets of its partial sums, and how many channels each has."""
    offs_g, members = groups_at(pid_c * BLOCK_C, offs_c, C, GROUPS, SLOTS)
    part = pid_c - offs_g * (C // GROUPS) // BLOCK_C
    offs = _place_sums(pid_n, offs_g, part, pid_k, GROUPS, CHUNKS, PARTS)
    return offs_g, members, offs, tl.sum(members.to(tl.int32), 1)[:, None]


@triton.jit
def _elements(
    offs_g, part, offs_k, P, C, GROUPS, CHUNKS, PIXELS, dtype: tl.constexpr, WIDTH: tl.constexpr
):  # fmt: skip
    """Return how many elements each partial sum has [SLOTS, BLOCK_K]: 0 where there is none."""
    D = C // GROUPS
    first_c = offs_g * D
    block_c = (first_c // WIDTH + part) * WIDTH
    channels = tl.minimum(block_c + WIDTH, first_c + D) - tl.maximum(block_c, first_c)  # [SLOTS, 1]
    channels = tl.where(offs_g < GROUPS, tl.maximum(channels, 0), 0)
    pixels = tl.where(offs_k < CHUNKS, tl.minimum(P - offs_k * PIXELS, PIXELS), 0)  # [1, BLOCK_K]
    return channels.to(dtype) * pixels.to(dtype)


@triton.jit
def statistics(
    origin_ptr, means_ptr, squares_ptr, pid_n, offs_g, P, C, GROUPS, CHUNKS, PIXELS, ELEMENTS,
    EPS: tl.constexpr, PARTS: tl.constexpr, WIDTH: tl.constexpr, BLOCK_K: tl.constexpr
):  # fmt: skip
    """Return mean and rstd of groups [SLOTS, 1] of ELEMENTS elements; BLOCK_K is not below CHUNKS.

    Reads origin [N, GROUPS], means and squares [N, GROUPS, PARTS, CHUNKS].
    """
    dtype: tl.constexpr = means_ptr.dtype.element_ty
    offs_k = tl.arange(0, BLOCK_K)[None, :]
    weighted = tl.zeros([offs_g.shape[0], BLOCK_K], dtype)
    for part in tl.static_range(PARTS):
        count = _elements(offs_g, part, offs_k, P, C, GROUPS, CHUNKS, PIXELS, dtype, WIDTH)
        offs = _place_sums(pid_n, offs_g, part, offs_k, GROUPS, CHUNKS, PARTS)
        weighted += tl.load(means_ptr + offs, mask=count > 0, other=0.0) * count
    mean = tl.sum(weighted, 1)[:, None] / ELEMENTS
    squares = tl.zeros_like(weighted)
    for part in tl.static_range(PARTS):
        count = _elements(offs_g, part, offs_k, P, C, GROUPS, CHUNKS, PIXELS, dtype, WIDTH)
        offs = _place_sums(pid_n, offs_g, part, offs_k, GROUPS, CHUNKS, PARTS)
        delta = tl.load(means_ptr + offs, mask=count > 0, other=0.0) - mean
        squares += tl.load(squares_ptr + offs, mask=count > 0, other=0.0) + delta * delta * count
    variance = tl.sum(squares, 1)[:, None] / ELEMENTS
    origin = tl.load(origin_ptr + pid_n * GROUPS + offs_g, mask=offs_g < GROUPS, other=0.0)
    return origin + mean, finite_rsqrt(variance + EPS)


@triton.jit
def mean_of_sums(
    sums_ptr, pid_n, offs_g, P, C, GROUPS, CHUNKS, PIXELS, ELEMENTS, PARTS: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK_K: tl.constexpr
):  # fmt: skip
    """Return the mean over groups [SLOTS, 1] of ELEMENTS elements, from sums [N, GROUPS, PARTS, CHUNKS]."""
    dtype: tl.constexpr = sums_ptr.dtype.element_ty
    offs_k = tl.arange(0, BLOCK_K)[None, :]
    total = tl.zeros([offs_g.shape[0], BLOCK_K], dtype)
    for part in tl.static_range(PARTS):
        count = _elements(offs_g, part, offs_k, P, C, GROUPS, CHUNKS, PIXELS, dtype, WIDTH)
        offs = _place_sums(pid_n, offs_g, part, offs_k, GROUPS, CHUNKS, PARTS)
        total += tl.load(sums_ptr + offs, mask=count > 0, other=0.0)
    return tl.sum(total, 1)[:, None] / ELEMENTS


@triton.jit
def group_norm_silu_fwd_partial_kernel(
    x_ptr, skip_ptr, shift_ptr, origin_ptr, means_ptr, squares_ptr, P, C1, C2, GROUPS, SHIFT_STEP, CHUNKS, TILES,
    HAS_SKIP: tl.constexpr, HAS_SHIFT: tl.constexpr, SLOTS: tl.constexpr, PARTS: tl.constexpr, BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr
):  # fmt: skip
    """Store mean and centred sum of squares of groups in a block of channels and a chunk of TILES * BLOCK_P pixels.

    Reads x [N, P, C1], skip [N, P, C2], and shift, whose rows are SHIFT_STEP elements apart: C, or 0 if all images
    have the same [C]. Writes origin [N, GROUPS], means and squares [N, GROUPS, PARTS, CHUNKS].
    """
    C = C1 + C2
    D = C // GROUPS
    pid_n, pid_k, pid_c = unravel(tl.program_id(0), tl.cdiv(C, BLOCK_C), CHUNKS)
    pid_n = pid_n.to(tl.int64)
    offs_c = pid_c * BLOCK_C + tl.arange(0, BLOCK_C)
    mask_c = offs_c < C
    dtype = means_ptr.dtype.element_ty
    mean = tl.zeros([BLOCK_C], dtype)
    square = tl.zeros([BLOCK_C], dtype)
    # All sums are of u minus the first element of its group, so that even a large common offset costs no digits.
    first_c = groups_of(offs_c, C, GROUPS) * D
    first_p = pid_n * P + tl.arange(0, 1)
    origin = load_u(x_ptr, skip_ptr, first_p, first_c, mask_c[None, :], C1, C2, HAS_SKIP).to(dtype)  # [1, BLOCK_C]
    shift = tl.zeros([BLOCK_C], dtype)
    if HAS_SHIFT:
        shift = tl.load(shift_ptr + pid_n * SHIFT_STEP + offs_c, mask=mask_c, other=0.0).to(dtype)
        origin += tl.load(shift_ptr + pid_n * SHIFT_STEP + first_c, mask=mask_c, other=0.0).to(dtype)[None, :]
    for tile in range(TILES):
        first = (pid_k * TILES + tile) * BLOCK_P
        offs_p = first + tl.arange(0, BLOCK_P)
        mask = (offs_p < P)[:, None] & mask_c[None, :]
        u = load_u(x_ptr, skip_ptr, pid_n * P + offs_p, offs_c, mask, C1, C2, HAS_SKIP).to(dtype)  # [BLOCK_P, BLOCK_C]
        u = tl.where(mask, u + shift[None, :] - origin, 0.0)
        # A tile behind the last pixel has size 0, therefore share 0, and changes nothing.
        size = tl.minimum(tl.maximum(P - first, 0), BLOCK_P).to(dtype)
        count = (first - pid_k * TILES * BLOCK_P).to(dtype)
        share = size / tl.maximum(count + size, 1.0)
        tile_mean = tl.sum(u, 0) / tl.maximum(size, 1.0)
        centred = tl.where(mask, u - tile_mean[None, :], 0.0)
        delta = tile_mean - mean
        mean += delta * share
        square += tl.sum(centred * centred, 0) + delta * delta * count * share
    offs_g, members, offs, channels = _targets(pid_n, pid_k, pid_c, offs_c, C, GROUPS, CHUNKS, SLOTS, PARTS, BLOCK_C)
    group_mean = _to_groups(mean, members) / tl.maximum(channels, 1).to(dtype)  # [SLOTS, 1]
    apart = mean - to_channels(group_mean, members)
    pixels = tl.minimum(P - pid_k * TILES * BLOCK_P, TILES * BLOCK_P).to(dtype)
    tl.store(means_ptr + offs, group_mean, mask=channels > 0)
    squares = _to_groups(square, members) + pixels * _to_groups(apart * apart, members)
    tl.store(squares_ptr + offs, squares, mask=channels > 0)
    if pid_k == 0:
        begins = members & (offs_c[None, :] == offs_g * D)  # [SLOTS, BLOCK_C]
        here = tl.sum(begins.to(tl.int32), 1)[:, None] > 0
        tl.store(origin_ptr + pid_n * GROUPS + offs_g, tl.sum(tl.where(begins, origin, 0.0), 1)[:, None], mask=here)


@triton.jit
def group_norm_silu_fwd_combine_kernel(
    origin_ptr, means_ptr, squares_ptr, mean_ptr, rstd_ptr, P, C, GROUPS, CHUNKS, PIXELS, ELEMENTS,
    EPS: tl.constexpr, PARTS: tl.constexpr, WIDTH: tl.constexpr, BLOCK_K: tl.constexpr
):  # fmt: skip
    """Store mean and rstd of one group from its chunks of PIXELS pixels.

    Reads origin [N, GROUPS], means and squares [N, GROUPS, PARTS, CHUNKS]. Writes mean and rstd [N, GROUPS].
    """
    pid = tl.program_id(0).to(tl.int64)
    offs_g = (tl.program_id(0) % GROUPS) + tl.arange(0, 1)[:, None]
    mean, rstd = statistics(
        origin_ptr, means_ptr, squares_ptr, pid // GROUPS, offs_g, P, C, GROUPS, CHUNKS, PIXELS, ELEMENTS, EPS, PARTS,
        WIDTH, BLOCK_K
    )  # fmt: skip
    offs = pid + tl.arange(0, 1)[:, None]
    tl.store(mean_ptr + offs, mean)
    tl.store(rstd_ptr + offs, rstd)


@triton.jit
def group_norm_silu_bwd_partial_kernel(
    dy_ptr, x_ptr, skip_ptr, shift_ptr, weight_ptr, bias_ptr, mean_ptr, rstd_ptr, sums_dn_ptr, sums_dn_n_ptr, P, C1,
    C2, GROUPS, SHIFT_STEP, CHUNKS, TILES, SILU: tl.constexpr, HAS_SKIP: tl.constexpr, HAS_SHIFT: tl.constexpr,
    SLOTS: tl.constexpr, PARTS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Store the sums of dn and of dn n of groups in a block of channels and a chunk of TILES * BLOCK_P pixels.

    Reads dy [N, P, C] and the inputs of ``group_norm_silu_fwd_partial_kernel``, weight and bias [C], mean and rstd
    [N, GROUPS]. Writes sums_dn, sums_dn_n [N, GROUPS, PARTS, CHUNKS].
    """
    C = C1 + C2
    pid_n, pid_k, pid_c = unravel(tl.program_id(0), tl.cdiv(C, BLOCK_C), CHUNKS)
    pid_n = pid_n.to(tl.int64)
    offs_c = pid_c * BLOCK_C + tl.arange(0, BLOCK_C)
    mean, rstd = load_statistics(mean_ptr, rstd_ptr, pid_n, offs_c, C, GROUPS)
    shift, weight, bias = load_channels(
        shift_ptr, weight_ptr, bias_ptr, pid_n, offs_c, C, SHIFT_STEP, mean.dtype, HAS_SHIFT
    )
    sums_dn = tl.zeros([BLOCK_P, BLOCK_C], mean.dtype)
    sums_dn_n = tl.zeros([BLOCK_P, BLOCK_C], mean.dtype)
    for tile in tl.range(TILES):
        rows, mask = tile_at(pid_n, (pid_k * TILES + tile) * BLOCK_P, offs_c, P, C, BLOCK_P)
        u = load_u(x_ptr, skip_ptr, rows, offs_c, mask, C1, C2, HAS_SKIP)  # [BLOCK_P, BLOCK_C], as dy, n, v and dv
        dy = tl.load(dy_ptr + rows[:, None] * C + offs_c[None, :], mask=mask, other=0.0).to(mean.dtype)
        n, v = normalised(u, shift, weight, bias, mean, rstd, HAS_SHIFT)
        dv = silu_gradient(dy, v, SILU, x_ptr.dtype.element_ty == tl.float32)  # 0 where dy is masked: n needs no mask
        sums_dn += dv
        sums_dn_n += dv * n
    _, members, offs, channels = _targets(pid_n, pid_k, pid_c, offs_c, C, GROUPS, CHUNKS, SLOTS, PARTS, BLOCK_C)
    tl.store(sums_dn_ptr + offs, _to_groups(tl.sum(sums_dn, 0) * weight, members), mask=channels > 0)
    tl.store(sums_dn_n_ptr + offs, _to_groups(tl.sum(sums_dn_n, 0) * weight, members), mask=channels > 0)


@triton.jit
def group_norm_silu_bwd_combine_kernel(
    sums_dn_ptr, sums_dn_n_ptr, mean_dn_ptr, mean_dn_n_ptr, P, C, GROUPS, CHUNKS, PIXELS, ELEMENTS,
    PARTS: tl.constexpr, WIDTH: tl.constexpr, BLOCK_K: tl.constexpr
):  # fmt: skip
    """Store the means of dn and of dn n over the ELEMENTS elements of one group.

    Reads sums_dn and sums_dn_n [N, GROUPS, PARTS, CHUNKS]. Writes mean_dn and mean_dn_n [N, GROUPS].
    """
    pid = tl.program_id(0).to(tl.int64)
    offs_g = (tl.program_id(0) % GROUPS) + tl.arange(0, 1)[:, None]
    pid_n, offs = pid // GROUPS, pid + tl.arange(0, 1)[:, None]
    mean_dn = mean_of_sums(
        sums_dn_ptr, pid_n, offs_g, P, C, GROUPS, CHUNKS, PIXELS, ELEMENTS, PARTS, WIDTH, BLOCK_K
    )  # fmt: skip
    mean_dn_n = mean_of_sums(
        sums_dn_n_ptr, pid_n, offs_g, P, C, GROUPS, CHUNKS, PIXELS, ELEMENTS, PARTS, WIDTH, BLOCK_K
    )  # fmt: skip
    tl.store(mean_dn_ptr + offs, mean_dn)
    tl.store(mean_dn_n_ptr + offs, mean_dn_n)
