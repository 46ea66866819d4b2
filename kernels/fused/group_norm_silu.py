"""GroupNorm of u = [x, skip] + shift, channels-last, then SiLU: n = (u - mean) rstd, v = n w + b, y = v sigmoid(v).

Small images have one launch, see ``group_norm_whole``; large ones have three in each direction. "Partial" sums each
channel over a chunk of pixels; a tile spans whole runs of channels, so that groups of any size cost the same, also a
group that has channels of both x and skip. "Combine" adds up chunks and channels of a group in a fixed order. "Last"
computes every element. Statistics are computed in two passes inside a tile and merged as in Chan, Golub and LeVeque
(1979), eq. 2.1.
Backward: dv = dy s (1 + v (1 - s)), dn = dv w, du = rstd (dn - mean(dn) - n mean(dn n)), means over each group.
Source: Wu and He, Group Normalization (arXiv 1803.08494), eq. 1 and 2.
"""

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from diffexplain_fast.kernels.configs import CONFIGS, Argument, launch
from diffexplain_fast.kernels.group_norm_tiles import (
    groups_of,
    load_channels,
    load_u,
    normalised,
    place,
    silu_factor,
    silu_gradient,
    tile_at,
)
from diffexplain_fast.kernels.group_norm_whole import (
    group_norm_silu_whole_bwd_kernel,
    group_norm_silu_whole_fwd_kernel,
)
from diffexplain_fast.kernels.primitives import finite_rsqrt, unravel
from torch import Tensor

_PROGRAMS = 2112
"""Number of programs of the partial sums: 16 for each multiprocessor of an H200, where it was measured. A constant,
so that the order of the sums, and with it every bit of the result, depends only on the shape, not on the device."""
_WHOLE = 2**14
"""Most elements of a group that one program computes alone, in one launch. Estimated from the compiled code, beside the
13 and 20 microseconds that three launches took forward and backward for 16 x 16 pixels on an H200; not measured."""


@triton.jit
def group_norm_silu_fwd_partial_kernel(
    x_ptr, skip_ptr, shift_ptr, origin_ptr, means_ptr, squares_ptr, P, C1, C2, GROUPS, SHIFT_STEP, CHUNKS, TILES,
    HAS_SKIP: tl.constexpr, HAS_SHIFT: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Store mean and centred sum of squares of each channel over a chunk of TILES * BLOCK_P pixels.

    Reads x [N, P, C1], skip [N, P, C2], and shift, whose rows are SHIFT_STEP elements apart: C, or 0 if all images
    have the same [C]. Writes origin [N, C], means and squares [N, CHUNKS, C].
    """
    C = C1 + C2
    pid_n, pid_k, pid_c = unravel(tl.program_id(0), tl.cdiv(C, BLOCK_C), CHUNKS)
    pid_n = pid_n.to(tl.int64)
    offs_c = pid_c * BLOCK_C + tl.arange(0, BLOCK_C)
    mask_c = offs_c < C
    dtype = means_ptr.dtype.element_ty
    mean = tl.zeros([BLOCK_C], dtype)
    square = tl.zeros([BLOCK_C], dtype)
    # All sums are of u minus the first element of its group, so that even a large common offset costs no digits.
    first_c = groups_of(offs_c, C, GROUPS) * (C // GROUPS)
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
    offs = (pid_n * CHUNKS + pid_k) * C + offs_c
    tl.store(means_ptr + offs, mean, mask=mask_c)
    tl.store(squares_ptr + offs, square, mask=mask_c)
    if pid_k == 0:
        tl.store(origin_ptr + pid_n * C + offs_c[None, :], origin, mask=mask_c[None, :])


@triton.jit
def group_norm_silu_fwd_combine_kernel(
    origin_ptr, means_ptr, squares_ptr, mean_ptr, rstd_ptr, P, C, GROUPS, CHUNKS, PIXELS,
    EPS: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    """Store mean and rstd of one group from its D channels and CHUNKS chunks of PIXELS pixels.

    Reads origin [N, C], means and squares [N, CHUNKS, C]. Writes mean and rstd [N, GROUPS].
    """
    D = C // GROUPS
    pid = tl.program_id(0).to(tl.int64)
    pid_n, pid_g = pid // GROUPS, pid % GROUPS
    dtype = mean_ptr.dtype.element_ty
    weighted = tl.zeros([BLOCK_K, BLOCK_D], dtype)
    counts = tl.zeros([BLOCK_K, BLOCK_D], dtype)
    squares = tl.zeros([BLOCK_K, BLOCK_D], dtype)
    mean = 0.0
    for second in tl.static_range(2):  # the first pass gives the mean, the second the squares around it
        for first_k in range(0, CHUNKS, BLOCK_K):
            offs_k = first_k + tl.arange(0, BLOCK_K)
            pixels = tl.minimum(P - offs_k * PIXELS, PIXELS)[:, None]
            for first_d in range(0, D, BLOCK_D):
                offs_d = first_d + tl.arange(0, BLOCK_D)
                mask = (offs_k < CHUNKS)[:, None] & (offs_d < D)[None, :]
                offs = (pid_n * CHUNKS + offs_k)[:, None] * C + (pid_g * D + offs_d)[None, :]
                count = tl.where(mask, pixels, 0).to(dtype)
                means = tl.load(means_ptr + offs, mask=mask, other=0.0)  # [BLOCK_K, BLOCK_D]
                if second == 0:
                    weighted += means * count
                    counts += count
                else:
                    delta = means - mean
                    squares += tl.load(squares_ptr + offs, mask=mask, other=0.0) + delta * delta * count
        if second == 0:
            mean = tl.sum(tl.sum(weighted, 1), 0) / tl.sum(tl.sum(counts, 1), 0)
    variance = tl.sum(tl.sum(squares, 1), 0) / tl.sum(tl.sum(counts, 1), 0)
    tl.store(mean_ptr + pid, tl.load(origin_ptr + pid_n * C + pid_g * D) + mean)
    tl.store(rstd_ptr + pid, finite_rsqrt(variance + EPS))


@triton.jit
def group_norm_silu_fwd_kernel(
    x_ptr, skip_ptr, shift_ptr, weight_ptr, bias_ptr, mean_ptr, rstd_ptr, y_ptr, offset_ptr, copy_ptr, P, C1, C2,
    GROUPS, SHIFT_STEP, SILU: tl.constexpr, HAS_SKIP: tl.constexpr, HAS_SHIFT: tl.constexpr, HAS_COPY: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Store y of one tile of pixels and channels.

    Reads x [N, P, C1], skip [N, P, C2], shift [N or 1, C], weight and bias [C], mean and rstd [N, GROUPS].
    Writes y [N, P, C]; if HAS_COPY, also u + offset to copy [N, P, C], offset being [C].
    """
    C = C1 + C2
    pid_n, first_p, offs_c = place(P, C, BLOCK_P, BLOCK_C)
    shift, weight, bias, mean, rstd, _ = load_channels(
        shift_ptr, weight_ptr, bias_ptr, mean_ptr, rstd_ptr, pid_n, offs_c, C, GROUPS, SHIFT_STEP, HAS_SHIFT
    )
    rows, mask = tile_at(pid_n, first_p, offs_c, P, C, BLOCK_P)
    u = load_u(x_ptr, skip_ptr, rows, offs_c, mask, C1, C2, HAS_SKIP)  # [BLOCK_P, BLOCK_C]
    if HAS_COPY:
        shifted = (shift + tl.load(offset_ptr + offs_c, mask=offs_c < C, other=0.0).to(mean.dtype))[None, :]
        copy = (u.to(mean.dtype) + shifted).to(copy_ptr.dtype.element_ty)
        tl.store(copy_ptr + rows[:, None] * C + offs_c[None, :], copy, mask=mask)
    _n, v = normalised(u, shift, weight, bias, mean, rstd, HAS_SHIFT)
    if SILU:
        v *= silu_factor(v, x_ptr.dtype.element_ty == tl.float32)
    tl.store(y_ptr + rows[:, None] * C + offs_c[None, :], v.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def group_norm_silu_bwd_partial_kernel(
    dy_ptr, x_ptr, skip_ptr, shift_ptr, weight_ptr, bias_ptr, mean_ptr, rstd_ptr, sums_dn_ptr, sums_dn_n_ptr, P, C1,
    C2, GROUPS, SHIFT_STEP, CHUNKS, TILES, SILU: tl.constexpr, HAS_SKIP: tl.constexpr, HAS_SHIFT: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Store the sums of dn and of dn n of each channel over a chunk of TILES * BLOCK_P pixels.

    Reads dy [N, P, C] and the inputs of ``group_norm_silu_fwd_kernel``. Writes sums_dn, sums_dn_n [N, CHUNKS, C].
    """
    C = C1 + C2
    pid_n, pid_k, pid_c = unravel(tl.program_id(0), tl.cdiv(C, BLOCK_C), CHUNKS)
    pid_n = pid_n.to(tl.int64)
    offs_c = pid_c * BLOCK_C + tl.arange(0, BLOCK_C)
    shift, weight, bias, mean, rstd, _ = load_channels(
        shift_ptr, weight_ptr, bias_ptr, mean_ptr, rstd_ptr, pid_n, offs_c, C, GROUPS, SHIFT_STEP, HAS_SHIFT
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
    sum_dn, sum_dn_n = tl.sum(sums_dn, 0), tl.sum(sums_dn_n, 0)
    offs = (pid_n * CHUNKS + pid_k) * C + offs_c
    tl.store(sums_dn_ptr + offs, sum_dn * weight, mask=offs_c < C)
    tl.store(sums_dn_n_ptr + offs, sum_dn_n * weight, mask=offs_c < C)


@triton.jit
def group_norm_silu_bwd_combine_kernel(
    sums_dn_ptr, sums_dn_n_ptr, mean_dn_ptr, mean_dn_n_ptr, ELEMENTS, C, GROUPS, CHUNKS, BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr
):  # fmt: skip
    """Store the means of dn and of dn n over the ELEMENTS elements of one group.

    Reads sums_dn and sums_dn_n [N, CHUNKS, C]. Writes mean_dn and mean_dn_n [N, GROUPS].
    """
    D = C // GROUPS
    pid = tl.program_id(0).to(tl.int64)
    pid_n, pid_g = pid // GROUPS, pid % GROUPS
    sum_dn = tl.zeros([BLOCK_K, BLOCK_D], mean_dn_ptr.dtype.element_ty)
    sum_dn_n = tl.zeros_like(sum_dn)
    for first_k in range(0, CHUNKS, BLOCK_K):
        offs_k = first_k + tl.arange(0, BLOCK_K)
        for first_d in range(0, D, BLOCK_D):
            offs_d = first_d + tl.arange(0, BLOCK_D)
            mask = (offs_k < CHUNKS)[:, None] & (offs_d < D)[None, :]
            offs = (pid_n * CHUNKS + offs_k)[:, None] * C + (pid_g * D + offs_d)[None, :]
            sum_dn += tl.load(sums_dn_ptr + offs, mask=mask, other=0.0)  # [BLOCK_K, BLOCK_D]
            sum_dn_n += tl.load(sums_dn_n_ptr + offs, mask=mask, other=0.0)
    tl.store(mean_dn_ptr + pid, tl.sum(tl.sum(sum_dn, 1), 0) / ELEMENTS)
    tl.store(mean_dn_n_ptr + pid, tl.sum(tl.sum(sum_dn_n, 1), 0) / ELEMENTS)


@triton.jit
def group_norm_silu_bwd_kernel(
    dy_ptr, x_ptr, skip_ptr, shift_ptr, weight_ptr, bias_ptr, mean_ptr, rstd_ptr, mean_dn_ptr, mean_dn_n_ptr, more_ptr,
    dx_ptr, dskip_ptr, P, C1, C2, GROUPS, SHIFT_STEP, SILU: tl.constexpr, HAS_SKIP: tl.constexpr,
    HAS_SHIFT: tl.constexpr, HAS_MORE: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Store dx and dskip of one tile of pixels and channels.

    Reads dy [N, P, C], the inputs of ``group_norm_silu_fwd_kernel``, mean_dn and mean_dn_n [N, GROUPS].
    Writes dx [N, P, C1] and dskip [N, P, C2]; more [N, P, C1] is added to dx if HAS_MORE.
    """
    C = C1 + C2
    pid_n, first_p, offs_c = place(P, C, BLOCK_P, BLOCK_C)
    shift, weight, bias, mean, rstd, offs_g = load_channels(
        shift_ptr, weight_ptr, bias_ptr, mean_ptr, rstd_ptr, pid_n, offs_c, C, GROUPS, SHIFT_STEP, HAS_SHIFT
    )
    mean_dn = tl.load(mean_dn_ptr + offs_g, mask=offs_c < C, other=0.0)  # [BLOCK_C]
    mean_dn_n = tl.load(mean_dn_n_ptr + offs_g, mask=offs_c < C, other=0.0)
    rows, mask = tile_at(pid_n, first_p, offs_c, P, C, BLOCK_P)
    u = load_u(x_ptr, skip_ptr, rows, offs_c, mask, C1, C2, HAS_SKIP)  # [BLOCK_P, BLOCK_C], as dy, n, v and dn
    dy = tl.load(dy_ptr + rows[:, None] * C + offs_c[None, :], mask=mask, other=0.0).to(mean.dtype)
    n, v = normalised(u, shift, weight, bias, mean, rstd, HAS_SHIFT)
    dn = silu_gradient(dy, v, SILU, x_ptr.dtype.element_ty == tl.float32) * weight[None, :]
    du = rstd[None, :] * (dn - mean_dn[None, :] - n * mean_dn_n[None, :])
    offs, mask_x = rows[:, None] * C1 + offs_c[None, :], mask & (offs_c < C1)[None, :]
    if HAS_MORE:
        du += tl.load(more_ptr + offs, mask=mask_x, other=0.0).to(du.dtype)
    du = du.to(dx_ptr.dtype.element_ty)
    tl.store(dx_ptr + offs, du, mask=mask_x)
    if HAS_SKIP:
        offs_skip = rows[:, None] * C2 + (offs_c - C1)[None, :]
        tl.store(dskip_ptr + offs_skip, du, mask=mask & (offs_c >= C1)[None, :])


class _Plan:
    """The sizes of one call; its pixels are cut into chunks of whole tiles, and no chunk is empty."""

    def __init__(self, x: Tensor, skip: Tensor | None, shift: Tensor | None, groups: int) -> None:
        self.n, c1, height, width = x.shape
        c2 = 0 if skip is None else skip.shape[1]
        self.groups, self.pixels, self.channels = groups, height * width, c1 + c2
        blocks = CONFIGS["group_norm_silu_partial"][0].blocks
        self.channel_blocks = triton.cdiv(self.channels, blocks["BLOCK_C"])
        tiles = triton.cdiv(self.pixels, blocks["BLOCK_P"])
        most_chunks = min(tiles, triton.cdiv(_PROGRAMS, self.n * self.channel_blocks))
        self.tiles = triton.cdiv(tiles, most_chunks)
        self.chunks = triton.cdiv(tiles, self.tiles)
        self.chunk_pixels = self.tiles * blocks["BLOCK_P"]
        step = 0 if shift is None or len(shift) < self.n else self.channels  # a shift of one row is for all images
        self.sizes = {"P": self.pixels, "C1": c1, "C2": c2, "GROUPS": groups, "SHIFT_STEP": step}
        self.is_small = self.pixels * self.channels // groups <= _WHOLE

    def whole(self, kernel: triton.JITFunction, **arguments: Argument) -> None:
        sizes = {**self.sizes, "D": self.channels // self.groups}
        launch("group_norm_silu_whole", kernel, lambda _: (self.n * self.groups,), **arguments, **sizes)

    def partial(self, kernel: triton.JITFunction, **arguments: Argument) -> None:
        programs = self.n * self.chunks * self.channel_blocks
        sizes = {**self.sizes, "CHUNKS": self.chunks, "TILES": self.tiles}
        launch("group_norm_silu_partial", kernel, lambda _: (programs,), **arguments, **sizes)

    def combine(self, kernel: triton.JITFunction, **arguments: Argument) -> None:
        sizes = {"C": self.channels, "GROUPS": self.groups, "CHUNKS": self.chunks}
        launch("group_norm_silu_combine", kernel, lambda _: (self.n * self.groups,), **arguments, **sizes)

    def last(self, name: str, kernel: triton.JITFunction, **arguments: Argument) -> None:
        def grid(meta: Mapping[str, int]) -> tuple[int]:
            tiles = triton.cdiv(self.pixels, meta["BLOCK_P"]) * triton.cdiv(self.channels, meta["BLOCK_C"])
            return (self.n * tiles,)

        launch(name, kernel, grid, key=("C1", "C2"), **arguments, **self.sizes)


def _empty(like: Tensor, *shape: int) -> Tensor:
    """Return an empty tensor in the dtype of the statistics."""
    return torch.empty(shape, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)


def _inputs(x: Tensor, skip: Tensor | None, shift: Tensor | None, weight: Tensor, bias: Tensor) -> dict[str, Argument]:
    """Return the inputs that both last kernels read; x is passed in place of a missing tensor and never loaded as
    it."""
    return {
        "x_ptr": x,
        "skip_ptr": x if skip is None else skip,
        "shift_ptr": x if shift is None else shift.contiguous(),
        "weight_ptr": weight.contiguous(),
        "bias_ptr": bias.contiguous(),
        "HAS_SKIP": skip is not None,
        "HAS_SHIFT": shift is not None,
    }


def group_norm_silu_fwd(
    x: Tensor, skip: Tensor | None, shift: Tensor | None, weight: Tensor, bias: Tensor, num_groups: int,
    eps: float, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return y [N, C, H, W] channels-last, and mean and rstd [N, G] in float32."""
    return _forward(x, skip, shift, weight, bias, num_groups, eps, silu, None, x)


def group_norm_silu_fwd_copy(
    x: Tensor, shift: Tensor | None, weight: Tensor, bias: Tensor, num_groups: int, eps: float, silu: bool,
    offset: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the same for one tensor, and x + shift + offset [N, C, H, W], rounded once; offset is [C]."""
    copy = torch.empty_like(x)
    return *_forward(x, None, shift, weight, bias, num_groups, eps, silu, offset.contiguous(), copy), copy


def group_norm_silu_again(
    x: Tensor, skip: Tensor | None, shift: Tensor | None, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor,
    num_groups: int, eps: float, silu: bool, offset: Tensor | None
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return y for known statistics, and the copy of ``group_norm_silu_fwd_copy``, empty if offset is None."""
    copy = torch.empty(0, dtype=x.dtype, device=x.device) if offset is None else torch.empty_like(x)
    options = (num_groups, eps, silu, None if offset is None else offset.contiguous())
    return _forward(x, skip, shift, weight, bias, *options, copy, (mean, rstd))[0], copy


def _forward(
    x: Tensor, skip: Tensor | None, shift: Tensor | None, weight: Tensor, bias: Tensor, num_groups: int,
    eps: float, silu: bool, offset: Tensor | None, copy: Tensor, known: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    plan, inputs = _Plan(x, skip, shift, num_groups), _inputs(x, skip, shift, weight, bias)
    # mean and rstd have separate storages because the schema of a torch operator forbids that results share one.
    new = known is None or plan.is_small  # one launch computes them in any case
    mean, rstd = (_empty(x, plan.n, num_groups), _empty(x, plan.n, num_groups)) if new else known
    statistics = {"mean_ptr": mean, "rstd_ptr": rstd}
    shape = (plan.n, plan.channels, *x.shape[2:])
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    made = {"y_ptr": y, **statistics, "SILU": silu, "copy_ptr": copy}
    made |= {"offset_ptr": x if offset is None else offset, "HAS_COPY": offset is not None}
    if plan.is_small:
        plan.whole(group_norm_silu_whole_fwd_kernel, **inputs, **made, EPS=eps)
        return y, mean, rstd
    if new:
        means, squares = _empty(x, 2, plan.n, plan.chunks, plan.channels)
        partial = {"origin_ptr": _empty(x, plan.n, plan.channels), "means_ptr": means, "squares_ptr": squares}
        read = {name: value for name, value in inputs.items() if name not in ("weight_ptr", "bias_ptr")}
        plan.partial(group_norm_silu_fwd_partial_kernel, **read, **partial)
        sizes = {"P": plan.pixels, "PIXELS": plan.chunk_pixels, "EPS": eps}
        plan.combine(group_norm_silu_fwd_combine_kernel, **partial, **statistics, **sizes)
    plan.last("group_norm_silu_fwd", group_norm_silu_fwd_kernel, **inputs, **made)
    return y, mean, rstd


def group_norm_silu_bwd(
    dy: Tensor, x: Tensor, skip: Tensor | None, shift: Tensor | None, weight: Tensor, bias: Tensor,
    mean: Tensor, rstd: Tensor, num_groups: int, silu: bool
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the gradients of x and of skip; the second is an empty tensor if skip is None."""
    return _backward(dy, x, skip, shift, weight, bias, mean, rstd, num_groups, silu, None)


def group_norm_silu_bwd_add(
    dy: Tensor, x: Tensor, skip: Tensor | None, shift: Tensor | None, weight: Tensor, bias: Tensor,
    mean: Tensor, rstd: Tensor, num_groups: int, silu: bool, more: Tensor
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the same, with ``more``, another gradient of x, added to the first before it is rounded."""
    return _backward(dy, x, skip, shift, weight, bias, mean, rstd, num_groups, silu, more)


def _backward(
    dy: Tensor, x: Tensor, skip: Tensor | None, shift: Tensor | None, weight: Tensor, bias: Tensor,
    mean: Tensor, rstd: Tensor, num_groups: int, silu: bool, more: Tensor | None
) -> tuple[Tensor, Tensor]:  # fmt: skip
    plan = _Plan(x, skip, shift, num_groups)
    inputs = {"dy_ptr": dy, **_inputs(x, skip, shift, weight, bias), "mean_ptr": mean, "rstd_ptr": rstd, "SILU": silu}
    dx = torch.empty_like(x)
    dskip = torch.empty(0, dtype=x.dtype, device=x.device) if skip is None else torch.empty_like(skip)
    made = {"more_ptr": x if more is None else more, "HAS_MORE": more is not None, "dx_ptr": dx, "dskip_ptr": dskip}
    if plan.is_small:
        plan.whole(group_norm_silu_whole_bwd_kernel, **inputs, **made)
        return dx, dskip
    sums_dn, sums_dn_n = _empty(x, 2, plan.n, plan.chunks, plan.channels)
    mean_dn, mean_dn_n = _empty(x, 2, plan.n, num_groups)
    sums = {"sums_dn_ptr": sums_dn, "sums_dn_n_ptr": sums_dn_n}
    means = {"mean_dn_ptr": mean_dn, "mean_dn_n_ptr": mean_dn_n}
    plan.partial(group_norm_silu_bwd_partial_kernel, **inputs, **sums)
    elements = float(plan.pixels * plan.channels // num_groups)
    plan.combine(group_norm_silu_bwd_combine_kernel, **sums, **means, ELEMENTS=elements)
    plan.last("group_norm_silu_bwd", group_norm_silu_bwd_kernel, **inputs, **means, **made)
    return dx, dskip
