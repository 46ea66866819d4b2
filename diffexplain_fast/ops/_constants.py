"""Small tensors that are created once for each device."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def kept(most: int) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """Return a decorator for functions that create tensors: they run once for equal arguments.

    A call that ``torch.compile``, ``torch.export`` or another mode traces creates its tensors anew and keeps none:
    they have no numbers, so that every later call would answer without numbers too.

    Args:
        most: how many results of the function are kept.
    """

    def decorated(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        remembered: Callable[..., _Result] = functools.lru_cache(maxsize=most)(function)

        @functools.wraps(function)
        def wrapper(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
            if torch.compiler.is_compiling() or _get_current_dispatch_mode() is not None:
                return function(*arguments, **options)
            return remembered(*arguments, **options)

        return wrapper

    return decorated


@kept(128)
def constant(values: tuple[float | tuple[float, ...], ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers as a tensor that is copied to a device only once: a copy blocks, and a graph cannot record it.

    All callers share the tensor, so none may change it.

    Args:
        values: numbers, or tuples of numbers.
        dtype: dtype of the tensor.
        device: device of the tensor.
    """
    with torch.inference_mode(False):  # the tensor is kept, so it must not be an inference tensor
        return torch.tensor(values, dtype=dtype, device=device)
