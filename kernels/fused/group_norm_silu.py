"""GroupNorm of u = [x, skip] + shift, channels-last, then SiLU: n = (u - mean) rstd, v = n w + b, y = v sigmoid(v).

Small images have one launch, see ``group_norm_whole``; larger ones have two in each direction. "Partial" sums each
group over a chunk of pixels and a block of channels; a tile spans whole runs of channels, so that groups of any size
cost the same, also a group that has channels of both x and skip. "Last" adds up the sums of the groups of its tile in a
fixed order, and computes every element. Images with many chunks have a third launch in between, "combine", which adds
up the sums of each group once; see ``group_norm_sums``.
Backward: dv = dy s (1 + v (1 - s)), dn = dv w, du = rstd (dn - mean(dn) - n mean(dn n)), means over each group.
Source: Wu and He, Group Normalization (arXiv 1803.08494), eq. 1 and 2.
"""

import math
from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from diffexplain_fast.kernels.configs import CONFIGS, Argument, launch
from diffexplain_fast.kernels.group_norm_sums import (
    group_norm_silu_bwd_combine_kernel,
    group_norm_silu_bwd_partial_kernel,
    group_norm_silu_fwd_combine_kernel,
    group_norm_silu_fwd_partial_kernel,
    groups_at,
    mean_of_sums,
    statistics,
    to_channels,
)
from diffexplain_fast.kernels.group_norm_tiles import (
    load_channels,
    load_statistics,
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
from torch import Tensor

_PROGRAMS = 1056
"""Number of programs of the partial sums: 8 for each multiprocessor of an H200, where twice as many took half a
microsecond less at 64 x 64 pixels, but leave twice as many sums to the last launch. A constant, so that the order of
the sums, and with it every bit of the result, depends only on the shape, not on the device."""
_FOLDED = 64
"""Most chunks of an image whose sums the last launch adds up itself, each program those of its groups. Estimated: a
program of 32 pixels and 64 channels moves 8 KiB, and reads at most 5 KiB of sums, mostly from the L2 cache; the launch
that this saves took 5 to 8 microseconds on an H200."""
_WHOLE = 2**14
"""Most elements of a group that one program computes alone, in one launch. Estimated from the compiled code, beside the
13 and 20 microseconds that three launches took forward and backward for 16 x 16 pixels on an H200; not measured."""
_NO_SUMS: dict[str, Argument] = {"CHUNKS": 0, "PIXELS": 0, "ELEMENTS": 0.0}
_NO_SUMS |= dict.fromkeys(("SLOTS", "PARTS", "WIDTH", "BLOCK_K"), 1)
"""Arguments of the last launch where it adds up no sums."""


@triton.jit
def group_norm_silu_fwd_kernel(
    x_ptr, skip_ptr, shift_ptr, weight_ptr, bias_ptr, mean_ptr, rstd_ptr, y_ptr, offset_ptr, copy_ptr, origin_ptr,
    means_ptr, squares_ptr, P, C1, C2, GROUPS, SHIFT_STEP, CHUNKS, PIXELS, ELEMENTS, EPS: tl.constexpr,
    SILU: tl.constexpr, HAS_SKIP: tl.constexpr, HAS_SHIFT: tl.constexpr, HAS_COPY: tl.constexpr, FOLDED: tl.constexpr,
    SLOTS: tl.constexpr, PARTS: tl.constexpr, WIDTH: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr
):  # fmt: skip
    """Store y of one tile of pixels and channels.

    Reads x [N, P, C1], skip [N, P, C2], shift [N or 1, C], weight and bias [C], mean and rstd [N, GROUPS].
    Writes y [N, P, C]; if HAS_COPY, also u + offset to copy [N, P, C], offset being [C]. If FOLDED, it reads origin
    [N, GROUPS], means and squares [N, GROUPS, PARTS, CHUNKS], and writes mean and rstd.
    """
    C = C1 + C2
    pid_n, first_p, first_c = place(P, C, BLOCK_P, BLOCK_C)
    offs_c = first_c + tl.arange(0, BLOCK_C)
    rows, mask = tile_at(pid_n, first_p, offs_c, P, C, BLOCK_P)
    u = load_u(x_ptr, skip_ptr, rows, offs_c, mask, C1, C2, HAS_SKIP)  # [BLOCK_P, BLOCK_C]
    if FOLDED:
        offs_g, members = groups_at(first_c, offs_c, C, GROUPS, SLOTS)
        means, rstds = statistics(
            origin_ptr, means_ptr, squares_ptr, pid_n, offs_g, P, C, GROUPS, CHUNKS, PIXELS, ELEMENTS, EPS, PARTS,
            WIDTH, BLOCK_K
        )  # fmt: skip
        if first_p == 0:  # one tile of each group tells its statistics: that of its first pixel and channel
            begins = offs_g * (C // GROUPS)
            tells = (begins >= first_c) & (begins < tl.minimum(first_c + BLOCK_C, C))
            tl.store(mean_ptr + pid_n * GROUPS + offs_g, means, mask=tells)
            tl.store(rstd_ptr + pid_n * GROUPS + offs_g, rstds, mask=tells)
        mean, rstd = to_channels(means, members), to_channels(rstds, members)
    else:
        mean, rstd = load_statistics(mean_ptr, rstd_ptr, pid_n, offs_c, C, GROUPS)
    shift, weight, bias = load_channels(
        shift_ptr, weight_ptr, bias_ptr, pid_n, offs_c, C, SHIFT_STEP, mean.dtype, HAS_SHIFT
    )
    if HAS_COPY:
        shifted = (shift + tl.load(offset_ptr + offs_c, mask=offs_c < C, other=0.0).to(mean.dtype))[None, :]
        copy = (u.to(mean.dtype) + shifted).to(copy_ptr.dtype.element_ty)
        tl.store(copy_ptr + rows[:, None] * C + offs_c[None, :], copy, mask=mask)
    _n, v = normalised(u, shift, weight, bias, mean, rstd, HAS_SHIFT)
    if SILU:
        v *= silu_factor(v, x_ptr.dtype.element_ty == tl.float32)
    tl.store(y_ptr + rows[:, None] * C + offs_c[None, :], v.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def group_norm_silu_bwd_kernel(
    dy_ptr, x_ptr, skip_ptr, shift_ptr, weight_ptr, bias_ptr, mean_ptr, rstd_ptr, mean_dn_ptr, mean_dn_n_ptr,
    sums_dn_ptr, sums_dn_n_ptr, more_ptr, beside_ptr, dx_ptr, dskip_ptr, P, C1, C2, GROUPS, SHIFT_STEP, CHUNKS, PIXELS,
    ELEMENTS, SILU: tl.constexpr, HAS_SKIP: tl.constexpr, HAS_SHIFT: tl.constexpr, HAS_MORE: tl.constexpr,
    HAS_BESIDE: tl.constexpr, FOLDED: tl.constexpr, SLOTS: tl.constexpr, PARTS: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Store dx and dskip of one tile of pixels and channels.

    Reads dy [N, P, C], the inputs of ``group_norm_silu_fwd_kernel``, mean_dn and mean_dn_n [N, GROUPS]; if FOLDED, in
    place of these two, sums_dn and sums_dn_n [N, GROUPS, PARTS, CHUNKS]. Writes dx [N, P, C1] and dskip [N, P, C2];
    more [N, P, C1] is added to dx if HAS_MORE, and beside [N, P, C1] if HAS_BESIDE.
    """
    C = C1 + C2
    pid_n, first_p, first_c = place(P, C, BLOCK_P, BLOCK_C)
    offs_c = first_c + tl.arange(0, BLOCK_C)
    rows, mask = tile_at(pid_n, first_p, offs_c, P, C, BLOCK_P)
    u = load_u(x_ptr, skip_ptr, rows, offs_c, mask, C1, C2, HAS_SKIP)  # [BLOCK_P, BLOCK_C], as dy, n, v and dn
    dy = tl.load(dy_ptr + rows[:, None] * C + offs_c[None, :], mask=mask, other=0.0)
    mean, rstd = load_statistics(mean_ptr, rstd_ptr, pid_n, offs_c, C, GROUPS)
    if FOLDED:
        offs_g, members = groups_at(first_c, offs_c, C, GROUPS, SLOTS)
        dns = mean_of_sums(
            sums_dn_ptr, pid_n, offs_g, P, C, GROUPS, CHUNKS, PIXELS, ELEMENTS, PARTS, WIDTH, BLOCK_K
        )  # fmt: skip
        dn_ns = mean_of_sums(
            sums_dn_n_ptr, pid_n, offs_g, P, C, GROUPS, CHUNKS, PIXELS, ELEMENTS, PARTS, WIDTH, BLOCK_K
        )  # fmt: skip
        mean_dn, mean_dn_n = to_channels(dns, members), to_channels(dn_ns, members)
    else:
        mean_dn, mean_dn_n = load_statistics(mean_dn_ptr, mean_dn_n_ptr, pid_n, offs_c, C, GROUPS)
    shift, weight, bias = load_channels(
        shift_ptr, weight_ptr, bias_ptr, pid_n, offs_c, C, SHIFT_STEP, mean.dtype, HAS_SHIFT
    )
    n, v = normalised(u, shift, weight, bias, mean, rstd, HAS_SHIFT)
    dn = silu_gradient(dy.to(mean.dtype), v, SILU, x_ptr.dtype.element_ty == tl.float32) * weight[None, :]
    du = rstd[None, :] * (dn - mean_dn[None, :] - n * mean_dn_n[None, :])
    offs, mask_x = rows[:, None] * C1 + offs_c[None, :], mask & (offs_c < C1)[None, :]
    if HAS_MORE:
        du += tl.load(more_ptr + offs, mask=mask_x, other=0.0).to(du.dtype)
    if HAS_BESIDE:
        du += tl.load(beside_ptr + offs, mask=mask_x, other=0.0).to(du.dtype)
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
        self.width = blocks["BLOCK_C"]
        self.channel_blocks = triton.cdiv(self.channels, self.width)
        tiles = triton.cdiv(self.pixels, blocks["BLOCK_P"])
        wanted = triton.cdiv(_PROGRAMS, self.n * self.channel_blocks)
        # A quarter as many programs as wanted are enough where this saves the launch that adds up the sums.
        most_chunks = min(tiles, _FOLDED if _FOLDED < wanted <= 4 * _FOLDED else wanted)
        self.tiles = triton.cdiv(tiles, most_chunks)
        self.chunks = triton.cdiv(tiles, self.tiles)
        step = 0 if shift is None or len(shift) < self.n else self.channels  # a shift of one row is for all images
        self.sizes = {"P": self.pixels, "C1": c1, "C2": c2, "GROUPS": groups, "SHIFT_STEP": step}
        self.is_small = self.pixels * self.channels // groups <= _WHOLE
        self.is_folded = self.chunks <= _FOLDED
        self.group = self.channels // groups
        self.parts = _met(self.width, self.group)

    def whole(self, kernel: triton.JITFunction, **arguments: Argument) -> None:
        sizes = {**self.sizes, "D": self.group}
        launch("group_norm_silu_whole", kernel, lambda _: (self.n * self.groups,), **arguments, **sizes)

    def partial(self, kernel: triton.JITFunction, **arguments: Argument) -> None:
        programs = self.n * self.chunks * self.channel_blocks
        slots = triton.next_power_of_2(_met(self.group, self.width))
        sizes = {**self.sizes, "CHUNKS": self.chunks, "TILES": self.tiles, "SLOTS": slots, "PARTS": self.parts}
        launch("group_norm_silu_partial", kernel, lambda _: (programs,), **arguments, **sizes)

    def _sums(self) -> dict[str, Argument]:
        """Return the sizes of the sums as their readers take them."""
        pixels = self.tiles * CONFIGS["group_norm_silu_partial"][0].blocks["BLOCK_P"]
        sizes = {"CHUNKS": self.chunks, "PIXELS": pixels, "PARTS": self.parts, "WIDTH": self.width}
        elements = float(self.pixels * self.group)
        return {**sizes, "ELEMENTS": elements, "BLOCK_K": triton.next_power_of_2(self.chunks)}

    def combine(self, kernel: triton.JITFunction, **arguments: Argument) -> None:
        sizes = {"P": self.pixels, "C": self.channels, "GROUPS": self.groups, **self._sums()}
        launch("group_norm_silu_combine", kernel, lambda _: (self.n * self.groups,), **arguments, **sizes)

    def last(self, name: str, kernel: triton.JITFunction, folded: bool, **arguments: Argument) -> None:
        entry, sums = name, _NO_SUMS
        if folded:
            entry = f"{name}_folded"
            slots = triton.next_power_of_2(_met(self.group, CONFIGS[entry][0].blocks["BLOCK_C"]))
            sums = {**self._sums(), "SLOTS": slots}

        def grid(meta: Mapping[str, int]) -> tuple[int]:
            tiles = triton.cdiv(self.pixels, meta["BLOCK_P"]) * triton.cdiv(self.channels, meta["BLOCK_C"])
            return (self.n * tiles,)

        launch(entry, kernel, grid, key=("C1", "C2"), **arguments, **self.sizes, **sums, FOLDED=folded)


def _met(size: int, length: int) -> int:
    """Return how many pieces of a size a run of a length meets at most, if it begins at a multiple of its length."""
    return triton.cdiv(size - math.gcd(size, length) + length, size)


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
    found: dict[str, Argument] = {"mean_ptr": mean, "rstd_ptr": rstd}
    shape = (plan.n, plan.channels, *x.shape[2:])
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    made = {"y_ptr": y, **found, "SILU": silu, "copy_ptr": copy, "EPS": eps}
    made |= {"offset_ptr": x if offset is None else offset, "HAS_COPY": offset is not None}
    if plan.is_small:
        plan.whole(group_norm_silu_whole_fwd_kernel, **inputs, **made)
        return y, mean, rstd
    sums: dict[str, Argument] = dict.fromkeys(("origin_ptr", "means_ptr", "squares_ptr"), mean)  # not touched as these
    if new:
        means, squares = _empty(x, 2, plan.n, num_groups, plan.parts, plan.chunks)
        sums = {"origin_ptr": _empty(x, plan.n, num_groups), "means_ptr": means, "squares_ptr": squares}
        read = {name: value for name, value in inputs.items() if name not in ("weight_ptr", "bias_ptr")}
        plan.partial(group_norm_silu_fwd_partial_kernel, **read, **sums)
        if not plan.is_folded:
            plan.combine(group_norm_silu_fwd_combine_kernel, **sums, **found, EPS=eps)
    folded = new and plan.is_folded
    plan.last("group_norm_silu_fwd", group_norm_silu_fwd_kernel, folded, **inputs, **made, **sums)
    return y, mean, rstd


def group_norm_silu_bwd(
    dy: Tensor, x: Tensor, skip: Tensor | None, shift: Tensor | None, weight: Tensor, bias: Tensor,
    mean: Tensor, rstd: Tensor, num_groups: int, silu: bool
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the gradients of x and of skip; the second is an empty tensor if skip is None."""
    return _backward(dy, x, skip, shift, weight, bias, mean, rstd, num_groups, silu, None, None)


def group_norm_silu_bwd_add(
    dy: Tensor, x: Tensor, skip: Tensor | None, shift: Tensor | None, weight: Tensor, bias: Tensor,
    mean: Tensor, rstd: Tensor, num_groups: int, silu: bool, more: Tensor, beside: Tensor | None
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the same, with other gradients of x, ``more`` and ``beside``, added to the first before it is rounded."""
    return _backward(dy, x, skip, shift, weight, bias, mean, rstd, num_groups, silu, more, beside)


def _backward(
    dy: Tensor, x: Tensor, skip: Tensor | None, shift: Tensor | None, weight: Tensor, bias: Tensor,
    mean: Tensor, rstd: Tensor, num_groups: int, silu: bool, more: Tensor | None, beside: Tensor | None
) -> tuple[Tensor, Tensor]:  # fmt: skip
    plan = _Plan(x, skip, shift, num_groups)
    inputs = {"dy_ptr": dy, **_inputs(x, skip, shift, weight, bias), "mean_ptr": mean, "rstd_ptr": rstd, "SILU": silu}
    dx = torch.empty_like(x)
    dskip = torch.empty(0, dtype=x.dtype, device=x.device) if skip is None else torch.empty_like(skip)
    made = {"more_ptr": x if more is None else more, "HAS_MORE": more is not None, "dx_ptr": dx, "dskip_ptr": dskip}
    made |= {"beside_ptr": x if beside is None else beside, "HAS_BESIDE": beside is not None}
    if plan.is_small:
        plan.whole(group_norm_silu_whole_bwd_kernel, **inputs, **made)
        return dx, dskip
    sums_dn, sums_dn_n = _empty(x, 2, plan.n, num_groups, plan.parts, plan.chunks)
    sums = {"sums_dn_ptr": sums_dn, "sums_dn_n_ptr": sums_dn_n}
    means = {"mean_dn_ptr": mean, "mean_dn_n_ptr": rstd}  # not touched as these
    plan.partial(group_norm_silu_bwd_partial_kernel, **inputs, **sums)
    if not plan.is_folded:
        mean_dn, mean_dn_n = _empty(x, 2, plan.n, num_groups)
        means = {"mean_dn_ptr": mean_dn, "mean_dn_n_ptr": mean_dn_n}
        plan.combine(group_norm_silu_bwd_combine_kernel, **sums, **means)
    plan.last("group_norm_silu_bwd", group_norm_silu_bwd_kernel, plan.is_folded, **inputs, **means, **sums, **made)
    return dx, dskip
