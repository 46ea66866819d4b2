"""What a call used, for a backward that reads it again."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from diffexplain_fast.models.numbers import Numbers, in_memory
from diffexplain_fast.models.watch import OncePerBackward, Watch


class Used:
    """What the backward of one call reads again, as the call used it.

    Args:
        watch: watches the models that the call ran.
        tensors: further tensors that the backward reads, as trained weights, which may change between two calls.
    """

    def __init__(self, watch: Watch, tensors: Iterable[Tensor] = ()) -> None:
        self._watch, self._numbers = watch, Numbers(tensors)

    def edited(self) -> bool:
        """Return whether the models or the tensors are no longer those of the call; for a backward, when it begins."""
        return self._watch.edited_in_backward() or self._numbers.differ()


class UsedWeights:
    """The weights of a model as plain autograd used them, whose backward reads the weights and runs no module again.

    To such a backward hooks, options and weights that take the place of others do not matter, and torch itself notices
    what is changed in place, but not what is changed by ``weight.data``. Values are compared, so that weights which
    were elsewhere meanwhile, and are back, are the same.

    Args:
        model: has run.
    """

    def __init__(self, model: nn.Module) -> None:
        self._weights = [weight for weight in model.parameters() if in_memory(weight)]
        self._once = OncePerBackward()
        self.take_over()

    def of(self, model: nn.Module) -> bool:
        """Return whether these are still the weights of a model, and have the same values."""
        now = [weight for weight in model.parameters() if in_memory(weight)]
        same = len(now) == len(self._weights) and all(
            one is other for one, other in zip(now, self._weights, strict=True)
        )
        return same and not self.edited()

    def take_over(self) -> None:
        """Compare with the values that the weights have now."""
        self._places, self._numbers = self._place(), Numbers(self._weights)
        self._strides = [weight.stride() for weight in self._weights]

    def edited(self) -> bool:
        """Return whether a weight has other values, another dtype, shape or device; its order in memory may differ."""
        places = self._place()
        if places == self._places:
            return self._numbers.differ()
        kinds, before = ([place[1:] for place in each] for each in (places, self._places))
        return kinds != before or not self._numbers.same(Numbers(map(_ordered, self._weights, self._strides)))

    def edited_in_backward(self) -> bool:
        """Return the same as ``edited``, but read the weights only once in each run of autograd's engine."""
        return self._once.edited(self.edited)

    def _place(self) -> list[tuple[int, torch.dtype, torch.device, torch.Size]]:
        return [(weight.data_ptr(), weight.dtype, weight.device, weight.shape) for weight in self._weights]


def _ordered(weight: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Return a weight with its values in an order in memory, because numbers of another order are other ones."""
    if weight.stride() == strides:
        return weight
    return torch.empty_strided(weight.shape, strides, dtype=weight.dtype, device=weight.device).copy_(weight.detach())
