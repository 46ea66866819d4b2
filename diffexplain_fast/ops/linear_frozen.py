"""Linear layer with a frozen weight: the backward computes only the input's gradient and keeps nothing of the input."""

import torch.nn.functional as F
from torch import Tensor

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.ops._autocast import without_autocast
from diffexplain_fast.ops._check import check_frozen, check_like, check_tensors
from diffexplain_fast.ops._onednn import PackedMatrix, applies, layout_bytes


@without_autocast
def linear_frozen(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply by a frozen weight: y = x W^T + b.

    Args:
        x: activations [..., C].
        weight: frozen [K, C].
        bias: frozen [K] or None.

    Returns:
        [..., K], differentiable in ``x``. Kept for backward: only the weight.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: shapes that do not fit, or a weight that requires grad.

    Equivalent to: ``F.linear(x, weight, bias)``; torch keeps no input either if the weight is frozen.
    """
    check_tensors(x=x, weight=weight)
    if weight.ndim != 2 or x.shape[-1:] != weight.shape[1:]:
        raise wrong_value("weight", f"[K, C] for x {list(x.shape)}", list(weight.shape))
    check_like(x, weight.shape, weight=weight)
    check_like(x, weight.shape[:1], bias=bias)
    check_frozen(weight=weight, bias=bias)
    return F.linear(x, weight, bias)


class PackedLinear:
    """A frozen linear layer that is called many times, without checks, for few rows and many columns.

    On the CPU, the first call of each direction lays out the weight for oneDNN; the layout is kept beside the weight.

    Args:
        weight: [K, C].
        bias: [K] or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias
        self._forward: PackedMatrix | None = None
        self._backward: PackedMatrix | None = None

    @property
    def layout_bytes(self) -> int:
        """Bytes of the layouts of the weight after both directions have run."""
        return layout_bytes(self.weight, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b [R, K] for x [R, C], without recording a graph."""
        if not applies(x):
            return F.linear(x, self.weight, self.bias)
        self._forward = self._forward or PackedMatrix(self.weight, x.shape[0])
        return self._forward(x, self.bias)

    def backward(self, dy: Tensor) -> Tensor:
        """Return the gradient of x, dy W [R, C], for dy [R, K]."""
        if not applies(dy):
            return dy @ self.weight
        self._backward = self._backward or PackedMatrix(self.weight.T, dy.shape[0])
        return self._backward(dy, None)
