"""Whether a replay gives the results of the call itself, up to rounding.

Kernels for the same mathematics sum in different orders, and a trajectory of many steps enlarges the difference. Two
calls run operation by operation, whose inputs differ by one unit of rounding, show how large the difference may be.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

_MARGIN = 2.0
"""Bound, in distances of the two calls, which round differently only at their inputs; a replay may in its kernels."""
_CAP = 0.5
"""Largest bound. Results that have nothing to do with each other are about 1.4 apart."""
_APART = 2.0
"""Largest relative distance that two tensors can have; also that of a tensor that is missing or not finite."""
_TF32_UNIT = 2.0**-10

Results = Sequence[Tensor | None]


class Compared(NamedTuple):
    """The distance, among those of several tensors, that is the largest relative to its bound.

    Attributes:
        distance: distance of replay and call, |a - b| / max(|a|, |b|) in the L2 norm.
        bound: largest distance that counts as rounding.
    """

    distance: float
    bound: float

    @property
    def agree(self) -> bool:
        """Whether all tensors are within their bounds."""
        return self.distance <= self.bound

    def __str__(self) -> str:
        """Return both numbers as text."""
        return f"{self.distance:.2g} away where rounding explains {self.bound:.2g}"


def compare(got: Results, wanted: Results, moved: Results, unit: float) -> Compared:
    """Return how far the results of a replay are from those of the same call, and how far they may be.

    The bound of each tensor is twice the distance between the two calls run operation by operation; at least ``unit``
    and at most 0.5.

    Args:
        got: results of the replay.
        wanted: results of the same call, operation by operation.
        moved: results of the call whose inputs differ by one unit of rounding.
        unit: see ``rounding_unit``.
    """
    compared = [Compared(0.0, unit)]
    for replayed, called, nearby in zip(got, wanted, moved, strict=True):
        bound = min(_CAP, max(unit, _MARGIN * _distance(nearby, called)))
        compared.append(Compared(_distance(replayed, called), bound))
    return max(compared, key=lambda each: each.distance / each.bound)


def rounding_unit(dtypes: Iterable[torch.dtype], device: torch.device) -> float:
    """Return the relative spacing of numbers in the coarsest dtype; float32 may be TF32 on a CUDA device.

    Args:
        dtypes: dtypes of a call; those that are not floating are left out.
        device: device of the call.
    """
    floating = {dtype for dtype in dtypes if dtype.is_floating_point}
    units = [torch.finfo(dtype).eps for dtype in floating]
    if "tf32" in _fp32_precisions() and torch.float32 in floating and device.type == "cuda":
        units.append(_TF32_UNIT)
    return max(units, default=torch.finfo(torch.float32).eps)


def _fp32_precisions() -> tuple[str, str]:
    """Return the precision in which CUDA multiplies float32 matrices, and that in which cuDNN convolves them."""
    backends: Any = torch.backends  # whose types do not name these settings
    return backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision


def one_unit_away(tensors: Sequence[Tensor], unit: float) -> list[Tensor]:
    """Return tensors whose numbers are one unit of rounding larger or smaller, at random.

    Args:
        tensors: any tensors; those that are not floating stay.
        unit: relative unit, see ``rounding_unit``.
    """
    return multiplied(tensors, 1.0 + unit, 1.0 - unit)


def multiplied(tensors: Sequence[Tensor], first: float, second: float) -> list[Tensor]:
    """Return tensors with each number multiplied by one of two factors, chosen at random but alike in every run.

    Args:
        tensors: any tensors; those that are not floating stay.
        first: a factor.
        second: the other factor.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    products = []
    for tensor in tensors:
        product = tensor.detach().clone()
        if product.is_floating_point():
            chosen = torch.rand(product.shape, generator=generator, device="cpu") < 0.5
            product *= torch.where(chosen, first, second).to(product)
        products.append(product)
    return products


def _distance(a: Tensor | None, b: Tensor | None) -> float:
    if a is None or b is None:
        return 0.0 if a is b else _APART
    if not a.is_floating_point():
        return 0.0 if torch.equal(a, b) else _APART
    wide_a, wide_b = a.double(), b.double()
    size = max(float(wide_a.norm()), float(wide_b.norm()))
    distance = float((wide_a - wide_b).norm()) / size if size else 0.0
    return distance if distance <= _APART else _APART  # also a distance that is not a number
