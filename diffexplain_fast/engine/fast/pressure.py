"""Running parts of the trajectory when memory may run out: what was kept is let go and computed again, nothing is lost.

A part is a function of a storage level: a step, or the decoder.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.engine.fast.levels import LEVELS, Level

_LEANEST = LEVELS["bands"]
"""How a part is computed again once memory has run out."""

Part = Callable[[Level], Any]


class Made(NamedTuple):
    """A step's inputs, and its outputs with their graph; no outputs where the step is computed again."""

    sample: Tensor
    before: Tensor | None
    outputs: tuple[Tensor, ...] | None


class Memory:
    """What the steps of one call keep.

    Args:
        on_running_out: called when memory runs out, so that the next call keeps less; None lets the error through.

    Attributes:
        made: the steps so far, in order.
        ran_out: memory ran out on the way, and nothing has been kept since.
    """

    def __init__(self, on_running_out: Callable[[], None] | None) -> None:
        self._tell = on_running_out
        self.made: list[Made] = []
        self.ran_out = False

    def forward(self, part: Part, level: Level, kept: bool) -> tuple[Any, bool]:
        """Run a part forward.

        Args:
            part: what to run.
            level: its storage level.
            kept: keep its graph, if memory allows.

        Returns:
            Its outputs, and whether they have a graph.

        Raises:
            torch.OutOfMemoryError: it does not even run without a graph, with no other graph alive.
        """
        if not self.ran_out:
            try:
                with torch.set_grad_enabled(kept):
                    return part(level), kept
            except torch.OutOfMemoryError:
                if self._tell is None:
                    raise
                # handled below, where the exception no longer holds what was computed
            self._let_go()
        with torch.no_grad():
            return part(level), False

    def backward(
        self,
        part: Part,
        level: Level,
        kept: list[Any],
        inputs: Sequence[Tensor],
        cotangents: Sequence[Tensor | None],
    ) -> Sequence[Tensor | None]:
        """Return the gradients of a part's inputs, None for those it does not depend on.

        Args:
            part: runs the part again, with a graph.
            level: its storage level.
            kept: its outputs with their graph, if they were kept; emptied, so that nothing else holds them.
            inputs: what to differentiate in.
            cotangents: of its outputs; None for an output nothing depends on.

        Raises:
            torch.OutOfMemoryError: it does not fit even alone, at the leanest level.
        """
        if not self.ran_out:
            try:
                return _gradients(kept.pop() if kept else part, level, inputs, cotangents)
            except torch.OutOfMemoryError:
                if self._tell is None:
                    raise
            self._let_go()
        kept.clear()
        return _gradients(part, _LEANEST, inputs, cotangents)

    def _let_go(self) -> None:
        self.ran_out = True
        self.made[:] = [Made(sample, before, None) for sample, before, _ in self.made]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        what = "memory ran out: what the sampler kept is computed again, and later calls keep less; see sampler.plan"
        warnings.warn(what, RuntimeWarning, stacklevel=2)
        if self._tell is not None:
            self._tell()


def _gradients(
    outputs: Any, level: Level, inputs: Sequence[Tensor], cotangents: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    if callable(outputs) and not isinstance(outputs, Tensor):
        with torch.enable_grad():
            outputs = outputs(level)
    outputs = [outputs] if isinstance(outputs, Tensor) else outputs
    pairs = [(out, dy) for out, dy in zip(outputs, cotangents, strict=False) if dy is not None]
    return torch.autograd.grad([out for out, _ in pairs], inputs, [dy for _, dy in pairs], allow_unused=True)
