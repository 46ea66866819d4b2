"""Small tensors that are created once for each device."""

import functools
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Kept(Generic[_Arguments, _Result]):
    """A function that creates tensors, and runs once for equal arguments.

    A call that ``torch.compile``, ``torch.export`` or another mode traces creates its tensors anew and keeps none:
    they have no numbers, so that every later call would answer without numbers too.

    Args:
        function: the function.
        most: how many of its results are kept.
    """

    def __init__(self, function: Callable[_Arguments, _Result], most: int) -> None:
        functools.update_wrapper(self, function)
        remembered = functools.lru_cache(maxsize=most)(function)
        self._function = function
        self._remembered: Callable[..., _Result] = remembered
        self.cache_clear = remembered.cache_clear

    def __call__(self, *arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        if torch.compiler.is_compiling() or _get_current_dispatch_mode() is not None:
            return self._function(*arguments, **options)
        return self._remembered(*arguments, **options)


def kept(most: int) -> Callable[[Callable[_Arguments, _Result]], Kept[_Arguments, _Result]]:
    """Return a decorator that makes a function a ``Kept`` one, of which at most this many results are kept."""
    return lambda function: Kept(function, most)


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
