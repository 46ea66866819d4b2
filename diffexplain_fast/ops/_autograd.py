"""A backward without a derivative of its own, which says so."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Let a second derivative raise, however it is asked for.

    torch's ``once_differentiable`` raises only where ``Tensor.backward`` comes by: its gradients do not lead on to the
    inputs, so for ``torch.autograd.grad`` and ``hvp`` the second derivative would be zero, or lack a term, without a
    word. Here they lead on to whatever the backward was computed from.

    Args:
        backward: of an ``autograd.Function`` that keeps every input it is not linear in by ``save_for_backward``; gets
            the context and the cotangents.

    Returns:
        The backward, with gradients that raise when they are differentiated.
    """

    @functools.wraps(backward)
    def wrapper(ctx: Any, *cotangents: Tensor | None) -> Any:
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return backward(ctx, *cotangents)
        origins = [one for one in (*cotangents, *ctx.saved_tensors) if one is not None and one.requires_grad]
        with torch.no_grad():
            found = backward(ctx, *cotangents)
        grads = found if isinstance(found, tuple) else (found,)
        made = iter(_Last.apply(len(origins), *origins, *(grad for grad in grads if grad is not None)))
        leading = tuple(None if grad is None else next(made) for grad in grads)
        return leading if isinstance(found, tuple) else leading[0]

    return wrapper


class _Last(torch.autograd.Function):
    """Passes gradients on, as a function of their origins that has no derivative."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(grad.view_as(grad) for grad in tensors[count:])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> None:
        raise RuntimeError("this function has no second derivative: its backward cannot be differentiated")
