"""Gradients that are summed over the steps of a trajectory, all of one step in two launches."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Sums:
    """Gradients of leaves summed over the steps, in float32 at least.

    A leaf that no step reaches has no gradient, as in plain autograd.

    Args:
        leaves: tensors that get a gradient if they require one.
    """

    def __init__(self, leaves: Sequence[Tensor]) -> None:
        self._leaves = leaves
        # Those of text and time shifts at once: nearly always the steps reach all of them.
        self._totals = [
            _zeros(leaf) if leaf.requires_grad and not isinstance(leaf, nn.Parameter) else None for leaf in leaves
        ]
        self._reached = [False] * len(leaves)

    def add(self, by_input: Mapping[int, Tensor | None], scale: Tensor | float) -> None:
        """Add a step's gradients.

        Args:
            by_input: gradients by the id of the leaf.
            scale: the scale of their cotangents, from ``float16.scale_of``.
        """
        pairs: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = {}
        for number, leaf in enumerate(self._leaves):
            if (grad := by_input.get(id(leaf))) is not None:
                total = self._totals[number]
                total = self._totals[number] = _zeros(leaf) if total is None else total
                self._reached[number] = True
                pairs.setdefault(total.dtype, []).append((total, grad))
        for same in pairs.values():
            _add([total for total, _ in same], [grad for _, grad in same], scale)

    def totals(self) -> list[Tensor | None]:
        """Return the sums in the leaves' dtypes."""
        found = zip(self._totals, self._leaves, self._reached, strict=True)
        return [None if total is None or not reached else total.to(leaf.dtype) for total, leaf, reached in found]


def _add(totals: list[Tensor], grads: list[Tensor], scale: Tensor | float) -> None:
    """Add gradients, divided by a scale, to totals of one dtype in place.

    A launch for each tensor would take longer than its bytes. torch adds lists in one launch only if they are of one
    dtype, so gradients of another dtype are converted first.
    """
    if any(grad.dtype != totals[0].dtype for grad in grads):
        wide = [torch.empty_like(total) for total in totals]
        torch._foreach_copy_(wide, grads)
        grads = wide
    if isinstance(scale, Tensor):
        grads = list(torch._foreach_div(grads, scale))
    torch._foreach_add_(totals, grads)


def _zeros(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf, dtype=torch.promote_types(leaf.dtype, torch.float32), requires_grad=False)
