"""Nearest upsampling by two and a 3 x 3 convolution as one 2 x 2 convolution at the low resolution."""

from types import ModuleType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.ops._autocast import without_autocast
from diffexplain_fast.ops._autograd import Context, first_order, refuse_transforms
from diffexplain_fast.ops._check import check_frozen, check_like, check_tensors
from diffexplain_fast.ops._impl import choose, raw
from diffexplain_fast.ops._register import channels_last, register
from diffexplain_fast.ops.conv2d_frozen import Convolution
from diffexplain_fast.ops.reference import interleave as reference

_TAPS = ((slice(0, 1), slice(1, 3)), (slice(0, 2), slice(2, 3)))
"""For even and odd output lines, the indices of the taps that fall on the first and on the second input line."""


class SubpixelWeight(NamedTuple):
    """A 3 x 3 convolution after nearest upsampling, packed once.

    Attributes:
        convolution: 2 x 2 with one pixel of padding, whose 4K channels [4K, C, 2, 2] are the output pixels (1, 1),
            (1, 0), (0, 1), (0, 0) of 2 x 2 blocks that begin one line and one column before the image.
    """

    convolution: Convolution

    @property
    def bias(self) -> Tensor | None:
        """Bias [K] of the 3 x 3 convolution, which each of the four channels has."""
        bias = self.convolution.bias
        return None if bias is None else bias[: bias.shape[0] // 4]

    def adjoint(self, dy: Tensor, impl: str) -> Tensor:
        """Return the adjoint [N, C, H, W] of the input of ``upsample_conv``, or of some of its rows.

        Args:
            dy: adjoint of the output with a margin of one pixel on every side [N, K, 2H + 2, 2W + 2]: the neighbours
                of the rows, or zeros outside of the image.
            impl: as in ``upsample_conv``.
        """
        chosen = choose("interleave", impl, dy.device, dy.dtype).impl
        return self.through(raw("interleave_bwd", chosen, reference.interleave_bwd)(channels_last(dy)))

    def through(self, parts: Tensor) -> Tensor:
        """Return the adjoint [N, C, H, W] of the convolution's input, for that of its output [N, 4K, H + 1, W + 1]."""
        n, _, height, width = parts.shape
        shape = torch.Size((n, self.convolution.weight.shape[1], height - 1, width - 1))
        return channels_last(self.convolution.backward(parts, shape))


def pack_subpixel(weight: Tensor, bias: Tensor | None) -> SubpixelWeight:
    """Sum the taps of a frozen weight [K, C, 3, 3] that fall on the same pixel, in float32 or float64.

    Args:
        weight: frozen convolution weight.
        bias: [K] or None.

    Returns:
        The weights of ``upsample_conv``, in the dtype of ``weight``.

    Raises:
        TypeError: an argument is not a tensor.
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
        return torch.stack([lines[..., taps].sum(-1) for taps in _TAPS[b]], -1)

    # The blocks begin one line before the image, so their first line is an odd one.
    packed = torch.cat([phase(a, b) for a in (1, 0) for b in (1, 0)]).to(weight.dtype)
    return SubpixelWeight(Convolution(channels_last(packed), None if bias is None else bias.repeat(4), 1, 1))


@without_autocast
def upsample_conv(x: Tensor, packed: SubpixelWeight, *, impl: str = "auto") -> Tensor:
    """Upsample by two (nearest) and convolve 3 x 3 with one pixel of padding.

    It takes 4/9 of the multiplications that an image with one more line and column would need.

    Args:
        x: activations [N, C, H, W].
        packed: weights from ``pack_subpixel``.
        impl: how the four results are interleaved: "auto", "reference", "triton" or "cpp".

    Returns:
        [N, K, 2H, 2W], channels-last, differentiable in ``x``. Nothing of the input is kept for backward.

    Raises:
        TypeError: ``x`` is not a tensor, or ``packed`` is not a packed weight.
        ValueError: channels, dtype or device that do not fit, or an ``impl`` that cannot run.

    Equivalent to: ``F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)``.

    Source: Shi et al., sub-pixel convolution (arXiv 1609.05158), the reverse of its section 3.
    """
    refuse_transforms("upsample_conv", x)
    check_tensors(x=x)
    if not isinstance(packed, SubpixelWeight):
        raise wrong_type("packed", "a SubpixelWeight from pack_subpixel", packed)
    weight = packed.convolution.weight
    if x.ndim != 4 or x.shape[1] != weight.shape[1]:
        raise wrong_value("x", f"[N, {weight.shape[1]}, H, W]", list(x.shape))
    if x.dtype != weight.dtype or x.device != weight.device:
        wanted = f"{weight.dtype} on {weight.device}, as packed"
        raise wrong_value("x", wanted, f"{x.dtype} on {x.device}")
    chosen = choose("interleave", "reference" if x.numel() == 0 else impl, x.device, x.dtype).impl
    return _UpsampleConv.apply(channels_last(x), packed, chosen)


class _UpsampleConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, x: Tensor, packed: SubpixelWeight, impl: str) -> Tensor:
        ctx.packed, ctx.impl = packed, impl
        parts = channels_last(packed.convolution.forward(x))
        if impl == "triton":
            inner: Tensor = torch.ops.diffexplain_fast.interleave_inner_fwd_triton(parts)
            return inner
        blocks = raw("interleave_fwd", impl, reference.interleave_fwd)(parts)
        return channels_last(blocks[:, :, 1:-1, 1:-1])

    @staticmethod
    @first_order("upsample_conv")
    def backward(ctx: Context, saved: tuple[Tensor, ...], dy: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.impl == "triton":
            parts = torch.ops.diffexplain_fast.interleave_inner_bwd_triton(channels_last(dy))
            return ctx.packed.through(parts), None, None
        return ctx.packed.adjoint(F.pad(dy, (1, 1, 1, 1)), ctx.impl), None, None


def _fake_fwd(parts: Tensor, margin: int = 0) -> Tensor:
    n, channels, height, width = parts.shape
    y = parts.new_empty((n, channels // 4, 2 * (height - margin), 2 * (width - margin)))
    return y.contiguous(memory_format=torch.channels_last)


def _fake_bwd(dy: Tensor, margin: int = 0) -> Tensor:
    n, channels, height, width = dy.shape
    parts = dy.new_empty((n, 4 * channels, height // 2 + margin, width // 2 + margin))
    return parts.contiguous(memory_format=torch.channels_last)


def _kernels() -> ModuleType:
    from diffexplain_fast.kernels import interleave

    return interleave


register("interleave_fwd", "(Tensor parts) -> Tensor", _fake_fwd, _kernels)
register("interleave_bwd", "(Tensor dy) -> Tensor", _fake_bwd, _kernels)
# Of Triton only: with other kernels the outermost pixels are cut off, or added, by a copy.
register("interleave_inner_fwd", "(Tensor parts) -> Tensor", lambda parts: _fake_fwd(parts, 1), _kernels)
register("interleave_inner_bwd", "(Tensor dy) -> Tensor", lambda dy: _fake_bwd(dy, 1), _kernels)
