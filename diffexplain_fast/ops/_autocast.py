"""Computing in the dtypes of the tensors, also inside ``torch.autocast``."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_KINDS = ("cpu", "cuda")
"""Kinds of devices on which a model computes; of others, as of meta, torch does not say whether it casts there."""


def without_autocast(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Return a function that computes in the dtypes of its tensors.

    Args:
        function: the function; ``torch.autocast`` is off while it runs, also if it is on around the call.
    """

    @functools.wraps(function)
    def wrapper(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        if not (torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")):
            return function(*arguments, **options)
        with _off("cpu"), _off("cuda"):
            return function(*arguments, **options)

    return wrapper


def converted(value: _Result, weight: Tensor) -> _Result | Tensor:
    """Return an input in the dtype of a model inside of ``torch.autocast``, in which tensors of other dtypes meet.

    Args:
        value: a floating point tensor is converted; anything else is returned as it is, and so is every value outside
            of autocast on the device of the model.
        weight: a weight of the model.
    """
    kind = weight.device.type
    casts = kind in _KINDS and torch.is_autocast_enabled(kind)
    return value.to(weight.dtype) if casts and isinstance(value, Tensor) and value.is_floating_point() else value


def _off(device: str) -> AbstractContextManager[object]:
    """Return a context without autocast on a kind of device, in a form that ``torch.compile`` can trace."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
