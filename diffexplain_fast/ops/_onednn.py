"""Convolutions and products on the CPU with a weight laid out for oneDNN once; torch's own calls do it every time.

The functions are those that torch's compiler puts into frozen graphs. Where a torch has none, or other ones,
``applies`` says so and torch's own call runs.
"""

import functools

import torch
from torch import Tensor


def applies(x: Tensor) -> bool:
    """Return whether it can run so on x: float32 with numbers, on the CPU, outside of any tracing."""
    if torch.compiler.is_compiling() or type(x) is not Tensor:
        return False
    return x.dtype == torch.float32 and x.device.type == "cpu" and x.numel() > 0 and _works()


def layout_bytes(weight: Tensor, directions: int) -> int:
    """Return the bytes of a weight's layouts once it has been used in one direction or in both."""
    return directions * weight.numel() * weight.element_size() if applies(weight) else 0


class PackedWeight:
    """A convolution's weight in the layout that oneDNN chooses for inputs like the first one; others run too.

    Args:
        weight: [K, C, kh, kw].
        stride: step in pixels.
        padding: zeros on every side in pixels.
        x: an input [N, C, H, W].
    """

    def __init__(self, weight: Tensor, stride: int, padding: int, x: Tensor) -> None:
        self._place = ([padding, padding], [stride, stride], [1, 1], 1)
        with torch.inference_mode(False), torch.no_grad():  # it may serve calls in any mode
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(
                weight.contiguous(), *self._place, list(x.shape)
            )

    def __deepcopy__(self, memo: dict[int, object]) -> "PackedWeight":
        """Return itself: it never changes, and its layout cannot be copied."""
        return self

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return the convolution [N, K, H', W'] of x [N, C, H, W]."""
        return torch.ops.mkldnn._convolution_pointwise(x, self._weight, bias, *self._place, "none", [], "")


class PackedMatrix:
    """A linear layer's weight in the layout that oneDNN chooses for as many rows; others run too.

    Args:
        weight: [K, C].
        rows: number of rows.
    """

    def __init__(self, weight: Tensor, rows: int) -> None:
        with torch.inference_mode(False), torch.no_grad():
            self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)

    def __deepcopy__(self, memo: dict[int, object]) -> "PackedMatrix":
        """Return itself, as a ``PackedWeight`` does."""
        return self

    def __call__(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return x W^T + b [R, K] for x [R, C]."""
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, bias, "none", [], "")


@functools.cache
def _works() -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    pixel, one = torch.ones(1, 1, 1, 1), torch.ones(1, 1)
    try:
        convolved, multiplied = PackedWeight(pixel, 1, 0, pixel)(pixel, None), PackedMatrix(one, 1)(one, None)
        return torch.equal(convolved, pixel) and torch.equal(multiplied, one)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):  # another torch's functions
        return False
