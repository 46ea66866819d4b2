"""Running parts of the trajectory when memory may run out: kept tensors are then freed, and computed again later.

A part is a function of a storage level: a step, or the decoder.
"""

import warnings
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from diffexplain_fast.engine.lean.levels import LEVELS, Level
from diffexplain_fast.engine.lean.shelf import Shelf
from diffexplain_fast.engine.memory.host import Offloaded

_LEANEST = LEVELS["bands"]
"""The level at which a part is computed again once memory has run out."""

Outputs = Tensor | tuple[Tensor, ...]
_Some = TypeVar("_Some", bound=Outputs)


class Kept(NamedTuple):
    """What a part keeps for its backward.

    Attributes:
        outputs: the outputs with their graph; None for a part that is computed again.
        stored: the tensors of the graph that are in host memory.
        shelf: results that a part that is computed again takes back.
    """

    outputs: Outputs | None
    stored: Offloaded | None = None
    shelf: Shelf | None = None


class KeptStep(NamedTuple):
    """The inputs of a step, and what the step kept; None if it kept nothing."""

    sample: Tensor
    before: Tensor | None
    kept: Kept | None


class Memory:
    """The tensors that the steps of one call keep.

    Args:
        held: ``storage_key`` of tensors that stay allocated anyway.
        on_running_out: called when memory runs out, so that the next call keeps less; None lets the error through.

    Attributes:
        steps: the steps so far, in order.
        ran_out: whether memory ran out; nothing is kept from then on.
    """

    def __init__(self, held: Collection[int], on_running_out: Callable[[], None] | None) -> None:
        self._held, self._tell = held, on_running_out
        self.steps: list[KeptStep] = []
        self.ran_out = False

    def forward(self, part: Callable[[Level], _Some], level: Level, keep: bool) -> tuple[_Some, Kept | None]:
        """Run a part forward.

        Args:
            part: the part to run.
            level: storage level of the part.
            keep: whether to keep what the level says, if memory allows.

        Returns:
            The outputs, and what is kept.

        Raises:
            torch.OutOfMemoryError: the part does not even run without a graph, when no other graph is alive.
        """
        if not self.ran_out:
            try:
                if keep and not level.keep_step:
                    return _shelved(part, level)
                stored = Offloaded(self._held) if keep and level.on_host else None
                with torch.set_grad_enabled(keep), nullcontext() if stored is None else stored.hooks:
                    outputs = part(level)
                return outputs, Kept(outputs, stored) if keep else None
            except torch.OutOfMemoryError:
                if self._tell is None:
                    raise
                # handled below, where the exception no longer holds computed tensors
            self._let_go()
        with torch.no_grad():
            return part(level), None

    def backward(
        self,
        part: Callable[[Level], Outputs],
        level: Level,
        kept: list[Kept],
        inputs: Sequence[Tensor],
        cotangents: Sequence[Tensor | None],
        retain: bool = False,
    ) -> Sequence[Tensor | None]:
        """Return the gradients of a part's inputs, None for an input that the outputs do not depend on.

        Args:
            part: runs the part again, with a graph.
            level: storage level of the part.
            kept: what the part kept, if anything; emptied, so that nothing else holds the graph.
            inputs: tensors that get a gradient.
            cotangents: cotangents of the outputs; None for an output that nothing depends on.
            retain: leave the graph usable, a part of which is the caller's and belongs to other parts of the call too.

        Raises:
            torch.OutOfMemoryError: the part does not fit even when it is alone at the leanest level.
        """
        if not self.ran_out:
            try:
                graph = _graph_of(kept.pop() if kept else Kept(None), part, level)
                return _gradients(graph, inputs, cotangents, retain)
            except torch.OutOfMemoryError:
                if self._tell is None:
                    raise
            self._let_go()
        kept.clear()
        return _gradients(_graph_of(Kept(None), part, _LEANEST), inputs, cotangents, retain)

    def _let_go(self) -> None:
        self.ran_out = True
        self.steps[:] = [KeptStep(sample, before, None) for sample, before, _ in self.steps]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        what = "memory ran out: what the sampler kept is computed again, and later calls keep less; see sampler.plan"
        warnings.warn(what, RuntimeWarning, stacklevel=2)
        if self._tell is not None:
            self._tell()


def _shelved(part: Callable[[Level], _Some], level: Level) -> tuple[_Some, Kept]:
    """Return the outputs of a part that is computed again, and its shelf; a full one goes with the frame."""
    shelf = Shelf()
    with torch.no_grad():
        return part(level.on(shelf)), Kept(None, shelf=shelf)


class _Graph(NamedTuple):
    """The outputs of a part with their graph, and the tensors of the graph that are in host memory."""

    outputs: Outputs
    stored: Offloaded | None


def _graph_of(kept: Kept, part: Callable[[Level], Outputs], level: Level) -> _Graph:
    """Return the kept graph, or that of the part computed again."""
    if kept.outputs is not None:
        return _Graph(kept.outputs, kept.stored)
    with torch.enable_grad():
        return _Graph(part(level if kept.shelf is None else level.on(kept.shelf.again())), None)


def _gradients(
    graph: _Graph, inputs: Sequence[Tensor], cotangents: Sequence[Tensor | None], retain: bool
) -> Sequence[Tensor | None]:
    outputs, stored = graph
    outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
    # An output without a graph depends on no input, as where the user's own module runs without autograd.
    pairs = [(out, dy) for out, dy in zip(outputs, cotangents, strict=False) if dy is not None and out.requires_grad]
    if not pairs:
        return [None] * len(inputs)
    if stored is not None:
        stored.fetch()
    try:
        outs, dys = [out for out, _ in pairs], [dy for _, dy in pairs]
        return torch.autograd.grad(outs, inputs, dys, retain_graph=retain, allow_unused=True)
    finally:
        if stored is not None:
            stored.free()
