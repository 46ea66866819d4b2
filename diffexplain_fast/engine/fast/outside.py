"""What a hook, a processor or a method of the user reads beside the inputs of a model, and what it keeps of a run.

A call is one autograd node, and each part of it runs without a graph first and again for the backward. So a tensor that
requires grad and that a part reads beside its inputs has to be an input of the node, and a tensor that a hook keeps of
the first run has to refuse a gradient, which nothing would hand on. Both follow from the graph of the first run.
"""

import weakref
from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge, saved_tensors_hooks

from diffexplain_fast.models.watch import is_compiled, own_parts
from diffexplain_fast.ops._autograd import Context, TensorFunction

KEPT = (
    "a tensor that a hook, a processor or a method kept of a run of the UNet or the VAE has no gradient in the fast "
    "backend, which computes each step again; detach the tensor, or use backend='reference'"
)
"""Why a backward through such a tensor cannot run."""
UNKNOWN = (
    "the UNet or the VAE read another tensor that requires grad when a part of the call ran again for the backward, as "
    "of a hook that makes a new one in every run, or of a compiled module; use backend='reference'"
)
"""Why a backward cannot run whose parts read a tensor that the call has not read."""
ENTANGLED = (
    "a hook, a processor or a method of the UNet or the VAE reads weights that are trained in the other one, or what "
    "such weights are computed from; use backend='reference'"
)
"""Why a call cannot run in which a trained weight has two ways into a part."""
_Run = Callable[..., Tensor]


class Outside:
    """The tensors of the caller that the user's own modules read in one call.

    Args:
        trained: weights of the models that get a gradient anyway.
        asked: whether autograd is on, so that anything may get a gradient.

    Attributes:
        leaves: the tensors so far, each of which requires grad and is not computed from others. Where a module reads a
            tensor that the caller has computed, these are the tensors that it was computed from.
    """

    def __init__(self, trained: Collection[Tensor] = (), asked: bool = False) -> None:
        self.leaves: list[Tensor] = []
        self._trained, self._asked, self._settled = trained, asked, False
        self._passing: dict[Hashable, int] = {}
        self._doors: list[_Door] = []
        self._kinds: dict[int, tuple[bool, bool]] = {}
        self._origins: Sequence[Tensor] = ()
        self._origin: Tensor | None = None

    def begin(self, *inputs: Tensor) -> None:
        """Take the inputs of the call, with the caller's graph, to which the graphs of kept tensors have to lead.

        A gradient of chosen tensors runs only what leads to them, so it would else pass by what has to raise.
        """
        if self._asked and not self._settled:
            self._origins = [each for each in (*inputs, *self._trained) if each.requires_grad]

    def settled(self) -> Sequence[Tensor]:
        """Return the tensors at the end of the call, after which no part may read another one."""
        self._settled = True
        return tuple(self.leaves)

    def close(self) -> None:
        """Let no gradient through what hooks and processors have kept of the last run."""
        while self._doors:
            self._doors.pop().close()

    def aware(
        self, model: _Run, part: Hashable, own: nn.Module | None, weights: Sequence[Tensor], moving: bool
    ) -> _Run:
        """Return a model as a function that notices what a part of the call reads, and closes what hooks keep of it.

        Args:
            model: denoiser or decoder.
            part: names the part.
            own: the user's module that the model runs; None for a lean model, which reads nothing else.
            weights: trained weights of the model.
            moving: whether a gradient is wanted of the first argument, which does not say so in a run without a graph.

        Raises:
            RuntimeError: ``UNKNOWN``, ``ENTANGLED``.
        """
        if own is None or not self._asked:
            return model
        if id(own) not in self._kinds:
            self._kinds[id(own)] = is_compiled(own), _reads_more(own)
        compiled, more = self._kinds[id(own)]
        if not compiled and not more:
            return model

        def watched(sample: Tensor, /, *arguments: object) -> Tensor:
            again = torch.is_grad_enabled()
            if compiled and not again:  # hooks are compiled with it, so only the graph is looked at
                return model(sample, *arguments)
            self.close()
            self._doors.append(door := _Door())
            sample = sample if again or not moving else sample.detach().requires_grad_()
            with torch.enable_grad(), nullcontext() if again else door.saving():
                behind = self._behind(again)
                given = [_entered(value, door, behind) for value in (sample, *arguments)]
                output = model(*given)
            unknown = _unknown(output, weights)
            if part not in self._passing or not again:
                found = [*map(weakref.ref, unknown)]
                if not again:
                    self.close()
                    output, given, unknown = output.detach(), [], []
                # A leaf that went with the graph was made in the run, and nobody can ask for its gradient.
                living = [leaf for each in found if (leaf := each()) is not None]
                self._passing[part] = len(found) - len(living)
                self._add(living)
            elif len([leaf for leaf in unknown if not _among(leaf, self.leaves)]) > self._passing[part]:
                raise RuntimeError(UNKNOWN)
            return output

        return watched

    def _behind(self, again: bool) -> Sequence[Tensor]:
        """Return what an entrance leads to, so that a gradient of it comes past the entrance.

        Where a part runs again, that must not be a tensor of which the part's own backward asks the gradient.
        """
        if again and (self.leaves or self._trained):
            return ()
        if self._origin is None and self._origins:
            self._origin = _Origin.apply(*self._origins)
        return self.leaves if self._origin is None else (self._origin, *self.leaves)

    def _add(self, leaves: Sequence[Tensor]) -> None:
        new = [leaf for leaf in leaves if not _among(leaf, self.leaves)]
        if not new:
            return
        if self._settled:
            raise RuntimeError(UNKNOWN)
        behind = _leaves(self._trained, ())
        if any(_among(leaf, behind) for leaf in new):
            raise RuntimeError(ENTANGLED)
        self.leaves += new


class _Door:
    """Lets gradients of one run through until it is closed."""

    def __init__(self) -> None:
        self.closed = False
        self._kept: list[list[Tensor]] = []

    def saving(self) -> AbstractContextManager[object]:
        """Return a context in which a graph keeps its tensors until the door is closed."""
        if torch._C._autograd._saved_tensors_hooks_get_disabled_error_message() is not None:
            return nullcontext()  # the caller forbids such hooks, so the graph lives as long as its results

        def keep(tensor: Tensor) -> list[Tensor]:
            self._kept.append([tensor])
            return self._kept[-1]

        return saved_tensors_hooks(keep, _still_kept)

    def close(self) -> None:
        """Let nothing through from now on, and free the tensors that the graph keeps."""
        self.closed = True
        for kept in self._kept:
            kept.clear()
        self._kept.clear()


def _still_kept(kept: list[Tensor]) -> Tensor:
    if not kept:
        raise RuntimeError(KEPT)
    return kept[0]


class _Entrance(TensorFunction):
    """The place where a model's input enters its graph."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, door: _Door, *behind: Tensor) -> Tensor:
        ctx.door, ctx.count = door, len(behind)
        return x.clone()  # a module may write into its input

    @staticmethod
    def backward(ctx: Context, dy: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.door.closed:
            raise RuntimeError(KEPT)
        return dy, None, *[None] * ctx.count


class _Origin(TensorFunction):
    """A number behind which the inputs of a call are, and through which there is no gradient."""

    @staticmethod
    def forward(ctx: Context, *inputs: Tensor) -> Tensor:
        return inputs[0].new_zeros(())

    @staticmethod
    def backward(ctx: Context, dy: Tensor) -> tuple[None, ...]:
        raise RuntimeError(KEPT)


def _reads_more(model: nn.Module) -> bool:
    """Return whether a model may read tensors that require grad beside its inputs and parameters."""
    return bool(own_parts(model)) or any(buffer.requires_grad for buffer in model.buffers())


def _entered(value: object, door: _Door, behind: Sequence[Tensor]) -> object:
    if isinstance(value, Tensor):
        return _Entrance.apply(value, door, *behind) if value.requires_grad else value
    return [_entered(each, door, behind) for each in value] if isinstance(value, list | tuple) else value


def _unknown(output: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Return the leaves of a model's output that are neither weights nor behind the model's inputs."""
    leaves = _leaves([output], [each.grad_fn for each in weights if each.grad_fn is not None])
    known = {*map(id, weights)}
    return [leaf for leaf in leaves if id(leaf) not in known]


def _leaves(tensors: Collection[Tensor], ends: Collection[Node]) -> list[Tensor]:
    """Return the leaves of the graphs of tensors, without those that are only behind some nodes or an entrance."""
    nodes = [get_gradient_edge(tensor).node for tensor in tensors if tensor.requires_grad]
    seen, found = {*ends}, []
    while nodes:
        node = nodes.pop()
        if node not in seen:
            seen.add(node)
            if type(node).__name__ == "AccumulateGrad":
                found.append(node.variable)  # type: ignore[attr-defined]
            if not isinstance(getattr(node, "door", None), _Door):
                nodes += [following for following, _ in node.next_functions if following is not None]
    return found


def _among(tensor: Tensor, tensors: Sequence[Tensor]) -> bool:
    return any(tensor is each for each in tensors)
