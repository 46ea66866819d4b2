"""A backward without a derivative of its own, which says so."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Let a second derivative raise, whatever the loss.

    torch's ``once_differentiable`` raises only where the cotangents require grad. Those of a plain sum do not, and
    the second derivative of a function that is not linear would then be zero without a word.

    Args:
        backward: of an ``autograd.Function`` that is not linear; gets the context and the cotangents.

    Returns:
        The backward, with gradients that raise when they are differentiated.
    """
    once = torch.autograd.function.once_differentiable(backward)

    @functools.wraps(backward)
    def wrapper(ctx: Any, *cotangents: Tensor | None) -> Any:
        if not torch.is_grad_enabled():
            return backward(ctx, *cotangents)
        if not torch.compiler.is_compiling():
            cotangents = tuple(dy if dy is None else dy.detach().requires_grad_() for dy in cotangents)
        return once(ctx, *cotangents)

    return wrapper
