"""Numbers of weights that show an edit of their values which leaves no trace in address or version."""

from collections.abc import Iterable

import torch
from torch import Tensor

_NUMBERS = 7
"""Count of the numbers of a weight that are compared: unlike its norm, they show that it was negated or reordered."""


class Numbers:
    """The norm of each of some weights, and a few of its values, as they were at one time.

    An edit that keeps all of these, as two channels that change places, does not show. On a device, reading is a few
    launches for all weights together, and only ``differ`` waits for them.

    Args:
        weights: tensors. Those without values, of integers or of 8 bits are not compared, as they have no norm.

    Attributes:
        compared: ``id`` of the weights that are compared.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._groups: dict[tuple, list[tuple[Tensor, Tensor]]] = {}
        for weight in weights:
            if weight.is_floating_point() and weight.dtype.itemsize > 1 and in_memory(weight):
                self._groups.setdefault((weight.dtype, weight.device), []).append((weight, _sample(weight.detach())))
        self.compared = frozenset(id(weight) for group in self._groups.values() for weight, _ in group)
        self.take_over()

    def differ(self) -> bool:
        """Return whether the weights have other numbers now."""
        return not all(map(torch.equal, self._read(), self._before))

    def same(self, other: "Numbers") -> bool:
        """Return whether other weights had the same numbers when they were read."""
        return len(self._before) == len(other._before) and all(map(torch.equal, self._before, other._before))

    def take_over(self) -> None:
        """Compare with the numbers that the weights have now."""
        self._before = self._read()

    @torch.no_grad()
    def _read(self) -> list[Tensor]:
        """Return the norms and the values as one tensor for each dtype and device, which takes one wait to compare."""
        numbers = []
        for (dtype, _), group in self._groups.items():
            weights, samples = map(list, zip(*group, strict=True))
            norms = torch.stack(torch._foreach_norm(weights, 2, dtype=torch.promote_types(dtype, torch.float32)))
            numbers.append(torch.cat([norms, torch.cat(samples).to(norms.dtype)]).nan_to_num())
        return numbers


def in_memory(weight: Tensor) -> bool:
    """Return whether a weight has values in memory of its own, unlike one of "meta" or one made of other tensors."""
    return torch._C._has_storage(weight) and weight.data_ptr() != 0


def _sample(weight: Tensor) -> Tensor:
    """Return a view of a few numbers of a weight, at equal distances in memory, or of the first if it is not dense."""
    dense = weight.permute(sorted(range(weight.ndim), key=weight.stride, reverse=True))
    if dense.is_contiguous():
        return dense.reshape(-1)[:: max(1, weight.numel() // _NUMBERS)]
    return weight[(slice(1),) * weight.ndim].reshape(-1)  # ``flatten`` would copy, and a copy shows no edit
