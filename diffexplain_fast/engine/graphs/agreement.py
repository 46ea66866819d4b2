"""Whether a replay gives what the call itself gives, as far as rounding can tell.

Kernels of one and the same mathematics sum in other orders, and a trajectory of many steps enlarges the difference. How
much follows from two calls run operation by operation, whose inputs differ by one unit of rounding.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

_MARGIN = 2.0
"""Bounds, in distances of the two calls: they round otherwise at their inputs only, a replay may in its kernels."""
_CAP = 0.5
"""Largest bound. Results that have nothing to do with each other are about 1.4 apart."""
_APART = 2.0
"""Largest relative distance that two tensors can have; also of one that is missing or not finite."""
_TF32_UNIT = 2.0**-10

Results = Sequence[Tensor | None]


class Compared(NamedTuple):
    """The tensor, of several, that is nearest to its bound or farthest over it.

    Attributes:
        distance: of replay and call, |a - b| / max(|a|, |b|) in the L2 norm.
        bound: largest distance that is taken for rounding.
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
    found = [Compared(0.0, unit)]
    for one, two, other in zip(got, wanted, moved, strict=True):
        found.append(Compared(_distance(one, two), min(_CAP, max(unit, _MARGIN * _distance(other, two)))))
    return max(found, key=lambda each: each.distance / each.bound)


def rounding_unit(dtypes: Iterable[torch.dtype], device: torch.device) -> float:
    """Return the relative spacing of numbers in the coarsest dtype; float32 may be TF32 on a CUDA device.

    Args:
        dtypes: that a call computes in; those that are not floating are left out.
        device: where it computes.
    """
    floating = {dtype for dtype in dtypes if dtype.is_floating_point}
    units = [torch.finfo(dtype).eps for dtype in floating]
    if "tf32" in fp32_precisions() and torch.float32 in floating and device.type == "cuda":
        units.append(_TF32_UNIT)
    return max(units, default=torch.finfo(torch.float32).eps)


def fp32_precisions() -> tuple[str, str]:
    """Return the precision in which CUDA multiplies float32 matrices, and that in which cuDNN convolves them."""
    backends: Any = torch.backends  # whose types do not name these settings
    return backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision


def one_unit_away(tensors: Sequence[Tensor], unit: float) -> list[Tensor]:
    """Return tensors whose numbers are one unit of rounding larger or smaller, at random.

    Args:
        tensors: any; those that are not floating stay.
        unit: relative, see ``rounding_unit``.
    """
    return multiplied(tensors, 1.0 + unit, 1.0 - unit)


def multiplied(tensors: Sequence[Tensor], one: float, two: float) -> list[Tensor]:
    """Return tensors with each number multiplied by one of two factors at random, by the same ones in every run.

    Args:
        tensors: any; those that are not floating stay.
        one: a factor.
        two: the other.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    found = []
    for tensor in tensors:
        made = tensor.detach().clone()
        if made.is_floating_point():
            chosen = torch.rand(made.shape, generator=generator, device="cpu") < 0.5
            made *= torch.where(chosen, one, two).to(made)
        found.append(made)
    return found


def _distance(one: Tensor | None, two: Tensor | None) -> float:
    if one is None or two is None:
        return 0.0 if one is two else _APART
    if not one.is_floating_point():
        return 0.0 if torch.equal(one, two) else _APART
    first, second = one.double(), two.double()
    size = max(float(first.norm()), float(second.norm()))
    found = float((first - second).norm()) / size if size else 0.0
    return found if found <= _APART else _APART  # also where it is not a number
