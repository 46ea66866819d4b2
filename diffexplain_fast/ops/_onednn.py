"""Convolutions and products on the CPU whose weight is laid out for oneDNN only once, not in every call as torch does.

The functions are those that torch's compiler puts into frozen graphs. If a version of torch lacks them or has different
ones, ``applies`` returns False and torch's public call runs.
"""

import functools

import torch
from torch import Tensor


def applies(x: Tensor) -> bool:
    """Return whether packed weights can be used for x: a float32 tensor with elements, on the CPU, not traced."""
    if torch.compiler.is_compiling() or type(x) is not Tensor:
        return False
    return x.dtype == torch.float32 and x.device.type == "cpu" and x.numel() > 0 and _works()


def layout_bytes(weight: Tensor, directions: int) -> int:
    """Return the bytes of the layouts of a weight that has been used in one or both directions."""
    return directions * weight.numel() * weight.element_size() if applies(weight) else 0


class PackedWeight:
    """The weight of a convolution in the layout that oneDNN chooses for inputs like ``x``; other inputs run too.

    Args:
        weight: [K, C, kh, kw].
        stride: step in pixels.
        padding: zeros on every side in pixels.
        x: the first input [N, C, H, W].
    """

    def __init__(self, weight: Tensor, stride: int, padding: int, x: Tensor) -> None:
        self._place = ([padding, padding], [stride, stride], [1, 1], 1)
        with torch.inference_mode(False), torch.no_grad():  # the weight serves calls in any mode
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(
                weight.contiguous(), *self._place, list(x.shape)
            )

    def __deepcopy__(self, memo: dict[int, object]) -> "PackedWeight":
        """Return the same object, because it never changes and its layout cannot be copied."""
        return self

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return the convolution [N, K, H', W'] of x [N, C, H, W]."""
        return torch.ops.mkldnn._convolution_pointwise(x, self._weight, bias, *self._place, "none", [], "")


class PackedMatrix:
    """The weight of a linear layer in the layout that oneDNN chooses for a number of rows; other numbers run too.

    Args:
        weight: [K, C].
        rows: number of rows of the first input.
    """

    def __init__(self, weight: Tensor, rows: int) -> None:
        with torch.inference_mode(False), torch.no_grad():
            self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)

    def __deepcopy__(self, memo: dict[int, object]) -> "PackedMatrix":
        """Return the same object, as a ``PackedWeight`` does."""
        return self

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return x W^T + b [R, K] for x [R, C]."""
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, bias, "none", [], "")


@functools.cache
def _works() -> bool:
    """Return whether this torch has the functions, tried once with one number."""
    if not torch.backends.mkldnn.is_available():
        return False
    pixel, number = torch.ones(1, 1, 1, 1), torch.ones(1, 1)
    try:
        convolved, multiplied = PackedWeight(pixel, 1, 0, pixel)(pixel, None), PackedMatrix(number, 1)(number, None)
        return torch.equal(convolved, pixel) and torch.equal(multiplied, number)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):  # another torch has other functions
        return False
