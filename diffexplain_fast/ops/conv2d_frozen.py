"""Convolution with a frozen weight: the backward computes only the input's gradient and keeps nothing of the input."""

import torch
import torch.nn.functional as F
from torch import Tensor

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.ops._autocast import without_autocast
from diffexplain_fast.ops._autograd import Context, first_order, refuse_transforms
from diffexplain_fast.ops._check import check_at_least, check_frozen, check_like, check_tensors
from diffexplain_fast.ops._onednn import PackedWeight, applies, layout_bytes


@without_autocast
def conv2d_frozen(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0) -> Tensor:
    """Convolve with a frozen weight.

    Args:
        x: activations [N, C, H, W].
        weight: frozen [K, C, kh, kw], one group, no dilation.
        bias: frozen [K] or None.
        stride: step in pixels, at least 1.
        padding: zeros on every side in pixels, at least 0.

    Returns:
        [N, K, H', W'] in the memory format that torch chooses, differentiable in ``x``. Kept for backward: only the
        weight. PyTorch's convolution keeps the input too, for a weight gradient that nobody needs (pytorch#133566).

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: shapes that do not fit, or a weight that requires grad.

    Equivalent to: ``F.conv2d(x, weight, bias, stride, padding)``.
    """
    refuse_transforms("conv2d_frozen", x)
    check_tensors(x=x, weight=weight)
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[1]:
        raise wrong_value("weight", f"[K, C, kh, kw] for x {list(x.shape)}", list(weight.shape))
    check_like(x, weight.shape, weight=weight)
    check_like(x, weight.shape[:1], bias=bias)
    check_at_least(1, stride=stride)
    check_at_least(0, padding=padding)
    check_frozen(weight=weight, bias=bias)
    return Convolution(weight, bias, stride, padding, pack=False)(x)


class Convolution:
    """A frozen convolution that is called many times, without checks.

    On the CPU, the first call of each direction lays out the weight for oneDNN; the layout is kept beside the weight.

    Args:
        weight: [K, C, kh, kw]; if it is channels-last, its results are channels-last.
        bias: [K] or None.
        stride: step in pixels.
        padding: zeros on every side in pixels.
        pack: True to lay out the weight for oneDNN and keep the layouts.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: int, padding: int, pack: bool = True) -> None:
        self.weight, self.bias, self.stride, self.padding = weight, bias, stride, padding
        self._packs = pack
        self._forward: PackedWeight | None = None
        self._backward: PackedWeight | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the convolution [N, K, H', W'] of x [N, C, H, W], differentiable in x."""
        if x.requires_grad and torch.is_grad_enabled():
            return _Convolution.apply(x, self)
        return self.forward(x)

    @property
    def layout_bytes(self) -> int:
        """Bytes of the layouts of the weight after both directions have run."""
        return layout_bytes(self.weight, 1 + (self.stride == 1)) if self._packs else 0

    def forward(self, x: Tensor, biased: bool = True) -> Tensor:
        """Return the convolution [N, K, H', W'] of x [N, C, H, W], without recording a graph.

        Args:
            x: input.
            biased: False to leave out the bias, which on a GPU is a launch of its own, for a consumer that adds it.
        """
        bias = self.bias if biased else None
        if not (self._packs and applies(x)):
            return F.conv2d(x, self.weight, bias, self.stride, self.padding)
        if self._forward is None:
            self._forward = PackedWeight(self.weight, self.stride, self.padding, x)
        return self._forward(x, bias)

    def backward(self, dy: Tensor, shape: torch.Size) -> Tensor:
        """Return the gradient [N, C, H, W] of the input.

        Args:
            dy: gradient of the output [N, K, H', W'].
            shape: shape of the input.
        """
        height, width = self.weight.shape[2:]
        if not (self._packs and applies(dy) and self.stride == 1 and height == width > self.padding):
            missed = [
                side - (small - 1) * self.stride + 2 * self.padding - taps
                for side, small, taps in zip(shape[2:], dy.shape[2:], (height, width), strict=True)
            ]
            return F.conv_transpose2d(dy, self.weight, None, self.stride, self.padding, missed)
        if self._backward is None:
            rotated = self.weight.flip(2, 3).transpose(0, 1)
            self._backward = PackedWeight(rotated, 1, height - 1 - self.padding, dy)
        return self._backward(dy, None)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, x: Tensor, convolution: Convolution) -> Tensor:
        ctx.save_for_backward(convolution.weight)  # so that torch notices a change in place
        ctx.convolution, ctx.shape = convolution, x.shape
        return convolution.forward(x)

    @staticmethod
    @first_order("conv2d_frozen")
    def backward(ctx: Context, saved: tuple[Tensor, ...], dy: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.convolution.backward(dy, ctx.shape), None
