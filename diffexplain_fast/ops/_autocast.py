"""Computing in the dtypes of the tensors, also inside ``torch.autocast``."""

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import ParamSpec, TypeVar

import torch

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def without_autocast(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Return a function that computes in the dtypes of its tensors.

    Args:
        function: the function; ``torch.autocast`` is off while it runs, also if it is on around the call.
    """

    @functools.wraps(function)
    def wrapper(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        with ExitStack() as stack:
            for device in ("cpu", "cuda"):
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            return function(*arguments, **options)

    return wrapper
