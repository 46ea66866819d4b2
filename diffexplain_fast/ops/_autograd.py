"""The one order of derivative that a backward of the package has, and how others are refused."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch.autograd.function import FunctionCtx

from diffexplain_fast.errors import describe

_WANTED = "torch.autograd.grad or Tensor.backward, one call for each row of cotangents"
Gradients = Tensor | tuple[Tensor | None, ...] | None
"""What a backward returns: one gradient for each input, None where there is none."""


class Context(FunctionCtx):
    """The context of an ``autograd.Function`` as type checkers see it; torch makes the object itself.

    Attributes:
        saved_tensors: what ``save_for_backward`` was given, None left as it is.
        needs_input_grad: for each input of the forward, whether its gradient is asked for.
    """

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    if TYPE_CHECKING:
        # A forward keeps here whatever its backward reads, under names of its own.
        def save_for_backward(self, *tensors: Tensor | None) -> None: ...
        def set_materialize_grads(self, value: bool) -> None: ...
        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: object) -> None: ...


class TensorFunction(torch.autograd.Function):
    """An ``autograd.Function`` with one result, which type checkers see as a tensor."""

    if TYPE_CHECKING:

        @classmethod
        def apply(cls, *inputs: object) -> Tensor: ...


def first_order(name: str) -> Callable[[Callable[..., Gradients]], Callable[..., Gradients]]:
    """Let a second derivative and a batched one raise, however they are asked for.

    torch's ``once_differentiable`` raises only where ``Tensor.backward`` comes by: its gradients do not lead on to the
    inputs, so for ``torch.autograd.grad`` and ``hvp`` the second derivative would be zero, or lack a term, without a
    word. Here they lead on to whatever the backward was computed from.

    Saved tensors are read here and only once: ``torch.utils.checkpoint(use_reentrant=False)`` hands each out once a
    backward.

    Args:
        name: of the function, for the messages.

    Returns:
        A decorator for the backward of an ``autograd.Function`` that keeps every input it is not linear in by
        ``save_for_backward``. The backward gets the context, the tuple of saved tensors and the cotangents; its
        gradients raise when they are differentiated.
    """

    def decorated(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
        @functools.wraps(backward)
        def wrapper(ctx: Context, *cotangents: Tensor | None) -> Gradients:
            saved = ctx.saved_tensors
            if torch.compiler.is_compiling():
                return backward(ctx, saved, *cotangents)
            if any(one is not None and _batched(one) for one in cotangents):
                raise RuntimeError(describe(name, _WANTED, "a batch of them: is_grads_batched, vectorize or vmap"))
            if not torch.is_grad_enabled():
                return backward(ctx, saved, *cotangents)
            origins = [one for one in (*cotangents, *saved) if one is not None and one.requires_grad]
            with torch.no_grad():
                found = backward(ctx, saved, *cotangents)
            grads = found if isinstance(found, tuple) else (found,)
            made = iter(_Last.apply(name, len(origins), *origins, *(grad for grad in grads if grad is not None)))
            leading = tuple(None if grad is None else next(made) for grad in grads)
            return leading if isinstance(found, tuple) else leading[0]

        return wrapper

    return decorated


def refuse_transforms(name: str, *tensors: object) -> None:
    """Refuse a call inside of ``torch.func`` or forward mode, which need more than a backward.

    Args:
        name: of the function, for the message.
        *tensors: its arguments; what is no tensor is let through.

    Raises:
        RuntimeError: a transform of ``torch.func`` is active, or a tensor has a tangent.
    """
    if problem := transformed(*tensors):
        raise RuntimeError(describe(name, _WANTED, problem))


def transformed(*tensors: object) -> str:
    """Return by what a call is transformed, nothing if by nothing.

    Args:
        *tensors: its arguments; what is no tensor is let through.
    """
    if torch.compiler.is_compiling():
        return ""
    # torch.autograd.Function itself asks this, and there is no public way to.
    if torch._C._are_functorch_transforms_active():
        return "a call inside torch.func (grad, vjp, jvp, vmap, jacrev or jacfwd)"
    tangent = any(isinstance(one, Tensor) and unpack_dual(one).tangent is not None for one in tensors)
    return "a tensor with a tangent of forward mode" if tangent else ""


def _batched(tensor: Tensor) -> bool:
    """Whether a tensor stands for many, by the older or the newer of torch's two ways."""
    functorch = torch._C._functorch
    return functorch.is_legacy_batchedtensor(tensor) or functorch.is_batchedtensor(tensor)


class _Last(torch.autograd.Function):
    """Passes gradients on, as a function of their origins that has no derivative."""

    @staticmethod
    def forward(ctx: Context, name: str, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.name = name
        return tuple(grad.view_as(grad) for grad in tensors[count:])

    @staticmethod
    def backward(ctx: Context, *cotangents: Tensor) -> None:
        raise RuntimeError(f"{ctx.name} has no second derivative: its backward cannot be differentiated")
