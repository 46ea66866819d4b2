"""What a call used, for a backward that reads it again."""

from collections.abc import Iterable

from torch import Tensor

from diffexplain_fast.models.numbers import Numbers
from diffexplain_fast.models.watch import Watch


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
