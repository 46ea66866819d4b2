"""First derivatives only: a backward of the package refuses to be differentiated or batched."""

import functools
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import FunctionCtx

from diffexplain_fast.errors import describe
from diffexplain_fast.ops._autocast import without_autocast

_WANTED = "torch.autograd.grad or Tensor.backward, one call for each row of cotangents"
Gradients = Tensor | tuple[Tensor | None, ...] | None
"""The result of a backward: for each input a gradient or None."""


class Context(FunctionCtx):
    """The context of an ``autograd.Function`` as type checkers see it; torch creates the object.

    Attributes:
        saved_tensors: the arguments of ``save_for_backward``, also those that are None.
        needs_input_grad: for each input of the forward, True if its gradient is needed.
    """

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    if TYPE_CHECKING:
        # A forward stores here, under any names, the values that its backward reads.
        def save_for_backward(self, *tensors: Tensor | None) -> None: ...
        def set_materialize_grads(self, value: bool) -> None: ...
        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: object) -> None: ...


class TensorFunction(torch.autograd.Function):
    """An ``autograd.Function`` with one result, which type checkers see as a tensor."""

    if TYPE_CHECKING:

        @classmethod
        def apply(cls, *inputs: object) -> Tensor: ...


class PairFunction(torch.autograd.Function):
    """An ``autograd.Function`` with two results."""

    if TYPE_CHECKING:

        @classmethod
        def apply(cls, *inputs: object) -> tuple[Tensor, Tensor]: ...


def first_order(name: str) -> Callable[[Callable[..., Gradients]], Callable[..., Gradients]]:
    """Return a decorator that makes second derivatives and batched gradients raise.

    torch's ``once_differentiable`` raises only for ``Tensor.backward``: its gradients have no graph that leads to the
    inputs, so for ``torch.autograd.grad`` and ``hvp`` the second derivative would silently be zero or lack a term. The
    gradients of this decorator have a graph that leads to all tensors from which the backward was computed.

    The decorator reads saved tensors, and reads them only once, because ``torch.utils.checkpoint(use_reentrant=False)``
    hands out each of them once per backward.

    Args:
        name: name of the function, for the messages.

    Returns:
        A decorator for the backward of an ``autograd.Function``, which must save by ``save_for_backward`` every input
        that its result is not linear in. The backward gets the context, the tuple of saved tensors and the cotangents;
        its gradients raise when they are differentiated.
    """

    def decorated(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
        alone = without_autocast(backward)  # a backward may run inside of autocast, though its forward did not

        @functools.wraps(backward)
        def wrapper(ctx: Context, *cotangents: Tensor | None) -> Gradients:
            saved = ctx.saved_tensors
            if torch.compiler.is_compiling():
                # Traced inside of the forward, where autocast is off; it may be on where the backward runs.
                with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
                    return backward(ctx, saved, *cotangents)
            if any(cotangent is not None and _batched(cotangent) for cotangent in cotangents):
                raise RuntimeError(describe(name, _WANTED, "a batch of them: is_grads_batched, vectorize or vmap"))
            if not torch.is_grad_enabled():
                return alone(ctx, saved, *cotangents)
            origins = [origin for origin in (*cotangents, *saved) if origin is not None and origin.requires_grad]
            with torch.no_grad():
                result = alone(ctx, saved, *cotangents)
            grads = result if isinstance(result, tuple) else (result,)
            refusing = iter(_Last.apply(name, len(origins), *origins, *(grad for grad in grads if grad is not None)))
            linked = tuple(None if grad is None else next(refusing) for grad in grads)
            return linked if isinstance(result, tuple) else linked[0]

        return wrapper

    return decorated


def refuse_transforms(name: str, *tensors: object, modules: Iterable[nn.Module] = ()) -> None:
    """Refuse a call inside of ``torch.func`` or forward mode, which need more than a backward.

    Args:
        name: name of the function, for the message.
        *tensors: its arguments; those that are not tensors are ignored.
        modules: models whose weights are inputs too, as with ``torch.func.functional_call``.

    Raises:
        RuntimeError: a transform of ``torch.func`` is active, or a tensor has a tangent.
    """
    weights = chain.from_iterable(module.parameters() for module in modules) if forward_ad._current_level >= 0 else ()
    if problem := transformed(*tensors, *weights):
        raise RuntimeError(describe(name, _WANTED, problem))


def transformed(*tensors: object) -> str:
    """Return a description of the transform that is active in a call, or an empty string.

    Args:
        *tensors: arguments of the call; those that are not tensors are ignored.
    """
    # torch.autograd.Function asks this function too; torch has no public one. torch.compile knows the answer while it
    # traces, and traces again when the answer changes; without the question, gradients would silently be zero.
    if torch._C._are_functorch_transforms_active():
        return "a call inside torch.func (grad, vjp, jvp, vmap, jacrev or jacfwd)"
    # No tensor has a tangent outside of a dual level; torch has no public question for the level.
    if forward_ad._current_level < 0:
        return ""
    if torch.compiler.is_compiling():  # tangents cannot be seen while it traces
        return "a compiled call inside of a dual level of forward mode"
    tangent = any(isinstance(value, Tensor) and forward_ad.unpack_dual(value).tangent is not None for value in tensors)
    return "a tensor with a tangent of forward mode" if tangent else ""


def _batched(tensor: Tensor) -> bool:
    """Return whether a tensor is a batch of tensors, in the older or the newer of torch's two ways."""
    functorch = torch._C._functorch
    return functorch.is_legacy_batchedtensor(tensor) or functorch.is_batchedtensor(tensor)


class _Last(torch.autograd.Function):
    """Return gradients unchanged, as functions of their origins whose derivative raises."""

    @staticmethod
    def forward(ctx: Context, name: str, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.name = name
        return tuple(grad.view_as(grad) for grad in tensors[count:])

    @staticmethod
    def backward(ctx: Context, *cotangents: Tensor) -> None:
        raise RuntimeError(f"{ctx.name} has no second derivative: its backward cannot be differentiated")
