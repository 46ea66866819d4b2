"""Nearest upsampling by two and a 3 x 3 convolution as four 2 x 2 convolutions at the low resolution."""

from types import ModuleType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.ops._check import check_frozen, check_like, check_tensors
from diffexplain_fast.ops._impl import choose, raw
from diffexplain_fast.ops._register import channels_last, register
from diffexplain_fast.ops.conv2d_frozen import conv2d_input_gradient
from diffexplain_fast.ops.reference import interleave as reference

_TAPS = ((slice(0, 1), slice(1, 3)), (slice(0, 2), slice(2, 3)))
"""For the even and the odd output line: which of the three taps fall on the first and on the second input line."""
_PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))


class SubpixelWeight(NamedTuple):
    """A 3 x 3 convolution after nearest upsampling, packed once.

    Attributes:
        phases: for output pixels (0, 0), (0, 1), (1, 0), (1, 1) of every 2 x 2 block a weight [K, C, 2, 2].
        bias: [K] or None.
    """

    phases: tuple[Tensor, ...]
    bias: Tensor | None


def pack_subpixel(weight: Tensor, bias: Tensor | None) -> SubpixelWeight:
    """Sum the taps of a frozen weight [K, C, 3, 3] that fall on the same pixel, in float32 or float64.

    Args:
        weight: frozen convolution weight.
        bias: [K] or None.

    Returns:
        The four weights of ``upsample_conv``, in the dtype of ``weight``.

    Raises:
        TypeError: no tensor.
        ValueError: another kernel size, a bias that does not fit, or a weight that requires grad.
    """
    check_tensors(weight=weight)
    if weight.ndim != 4 or weight.shape[2:] != (3, 3):
        raise wrong_value("weight", "[K, C, 3, 3]", list(weight.shape))
    check_like(weight, weight.shape[:1], bias=bias)
    check_frozen(weight=weight, bias=bias)
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))

    def phase(a: int, b: int) -> Tensor:
        lines = torch.stack([wide[:, :, taps].sum(2) for taps in _TAPS[a]], 2)
        both = torch.stack([lines[..., taps].sum(-1) for taps in _TAPS[b]], -1)
        return channels_last(both.to(weight.dtype))

    return SubpixelWeight(tuple(phase(a, b) for a, b in _PHASES), bias)


def upsample_conv(x: Tensor, packed: SubpixelWeight, *, impl: str = "auto") -> Tensor:
    """Upsample by two (nearest) and convolve 3 x 3 with one pixel of padding, at 16/36 of the multiplications.

    Args:
        x: activations [N, C, H, W].
        packed: weights from ``pack_subpixel``.
        impl: how the four results are interleaved: "auto", "reference", "triton" or "cpp".

    Returns:
        [N, K, 2H, 2W], channels-last, differentiable in ``x``. Nothing of the input is kept for backward.

    Raises:
        TypeError: no tensor, or no packed weight.
        ValueError: channels, dtype or device that do not fit, or an ``impl`` that cannot run.

    Equivalent to: ``F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)``.

    Source: Shi et al., sub-pixel convolution (arXiv 1609.05158), the reverse of its section 3.
    """
    check_tensors(x=x)
    if not isinstance(packed, SubpixelWeight):
        raise wrong_type("packed", "a SubpixelWeight from pack_subpixel", packed)
    if x.ndim != 4 or x.shape[1] != packed.phases[0].shape[1]:
        raise wrong_value("x", f"[N, {packed.phases[0].shape[1]}, H, W]", list(x.shape))
    if x.dtype != packed.phases[0].dtype or x.device != packed.phases[0].device:
        wanted = f"{packed.phases[0].dtype} on {packed.phases[0].device}, as packed"
        raise wrong_value("x", wanted, f"{x.dtype} on {x.device}")
    chosen = choose("interleave", "reference" if x.numel() == 0 else impl, x.device, x.dtype).impl
    return _UpsampleConv.apply(channels_last(x), packed, chosen)


class _UpsampleConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: SubpixelWeight, impl: str) -> Tensor:
        ctx.packed, ctx.impl, ctx.shape = packed, impl, x.shape
        height, width = x.shape[2:]
        padded = F.pad(x, (1, 1, 1, 1))
        parts = [
            F.conv2d(padded[:, :, a : a + height + 1, b : b + width + 1], weight, packed.bias)
            for (a, b), weight in zip(_PHASES, packed.phases, strict=True)
        ]
        forward = raw("interleave_fwd", impl, reference.interleave_fwd)
        return forward(channels_last(torch.cat(parts, 1)))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        n, channels, height, width = ctx.shape
        backward = raw("interleave_bwd", ctx.impl, reference.interleave_bwd)
        parts = backward(channels_last(dy)).chunk(4, 1)
        dpadded = channels_last(dy.new_zeros((n, channels, height + 2, width + 2)))
        window = torch.Size((n, channels, height + 1, width + 1))
        for (a, b), weight, part in zip(_PHASES, ctx.packed.phases, parts, strict=True):
            gradient = conv2d_input_gradient(channels_last(part), weight, window, stride=1, padding=0)
            dpadded[:, :, a : a + height + 1, b : b + width + 1] += gradient
        return channels_last(dpadded[:, :, 1:-1, 1:-1]), None, None


def _fake_fwd(parts: Any) -> Any:
    n, channels, height, width = parts.shape
    y = parts.new_empty((n, channels // 4, 2 * height, 2 * width))
    return y.contiguous(memory_format=torch.channels_last)


def _fake_bwd(dy: Any) -> Any:
    n, channels, height, width = dy.shape
    parts = dy.new_empty((n, 4 * channels, height // 2, width // 2))
    return parts.contiguous(memory_format=torch.channels_last)


def _kernels() -> ModuleType:
    from diffexplain_fast.kernels import interleave

    return interleave


register("interleave_fwd", "(Tensor parts) -> Tensor", _fake_fwd, _kernels)
register("interleave_bwd", "(Tensor dy) -> Tensor", _fake_bwd, _kernels)
