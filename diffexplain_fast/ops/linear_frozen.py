"""Linear layer with a frozen weight: the backward has the input's gradient alone, and nothing of the input is kept."""

import torch.nn.functional as F
from torch import Tensor

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.ops._check import check_frozen, check_like, check_tensors


def linear_frozen(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply by a frozen weight: y = x W^T + b.

    Args:
        x: activations [..., C].
        weight: frozen [K, C].
        bias: frozen [K] or None.

    Returns:
        [..., K], differentiable in ``x``. Kept for backward: the weight alone.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: shapes that do not fit, or a weight that requires grad.

    Equivalent to: ``F.linear(x, weight, bias)``; torch itself keeps no input here, once the weight is frozen.
    """
    check_tensors(x=x, weight=weight)
    if weight.ndim != 2 or x.shape[-1:] != weight.shape[1:]:
        raise wrong_value("weight", f"[K, C] for x {list(x.shape)}", list(weight.shape))
    check_like(x, weight.shape, weight=weight)
    check_like(x, weight.shape[:1], bias=bias)
    check_frozen(weight=weight, bias=bias)
    return F.linear(x, weight, bias)
