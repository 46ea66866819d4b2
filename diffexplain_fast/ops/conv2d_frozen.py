"""Convolution with a frozen weight: the backward has the input's gradient alone, and nothing of the input is kept."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.ops._check import check_at_least, check_frozen, check_like, check_tensors


def conv2d_frozen(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0) -> Tensor:
    """Convolve with a frozen weight.

    Args:
        x: activations [N, C, H, W].
        weight: frozen [K, C, kh, kw], one group, no dilation.
        bias: frozen [K] or None.
        stride: step in pixels, at least 1.
        padding: zeros on every side in pixels, at least 0.

    Returns:
        [N, K, H', W'] in the memory format torch chooses, differentiable in ``x``. Kept for backward: the weight alone;
        PyTorch's own convolution keeps the input too, for a weight gradient nobody asks for (pytorch#133566).

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: shapes that do not fit, or a weight that requires grad.

    Equivalent to: ``F.conv2d(x, weight, bias, stride, padding)``.
    """
    check_tensors(x=x, weight=weight)
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[1]:
        raise wrong_value("weight", f"[K, C, kh, kw] for x {list(x.shape)}", list(weight.shape))
    check_like(x, weight.shape, weight=weight)
    check_like(x, weight.shape[:1], bias=bias)
    check_at_least(1, stride=stride)
    check_at_least(0, padding=padding)
    check_frozen(weight=weight, bias=bias)
    if not (x.requires_grad and torch.is_grad_enabled()):
        return F.conv2d(x, weight, bias, stride, padding)
    return _Conv2dFrozen.apply(x, weight, bias, stride, padding)


def conv2d_input_gradient(dy: Tensor, weight: Tensor, shape: torch.Size, stride: int, padding: int) -> Tensor:
    """Return the gradient [N, C, H, W] of a convolution's input, without a weight gradient and without the input.

    Args:
        dy: gradient of the output [N, K, H', W'].
        weight: [K, C, kh, kw].
        shape: shape of the input.
        stride: step in pixels.
        padding: zeros on every side in pixels.
    """
    # One element seen as a whole input: its values are not read for this gradient.
    stand_in = dy.new_empty(1).expand(shape)
    pair, mask = [0, 0], [True, False, False]
    steps, zeros = [stride, stride], [padding, padding]
    backward = torch.ops.aten.convolution_backward
    return backward(dy, stand_in, weight, None, steps, zeros, [1, 1], False, pair, 1, mask)[0]


class _Conv2dFrozen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.stride, ctx.padding = x.shape, stride, padding
        return F.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return conv2d_input_gradient(dy, weight, ctx.shape, ctx.stride, ctx.padding), None, None, None, None
