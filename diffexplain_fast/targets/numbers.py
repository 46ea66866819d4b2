"""Whole numbers of any library as ints."""

import operator
from typing import Any

import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_type


def whole_number(argument: str, x: Any, wanted: str = "a whole number") -> int:
    """Return an integer of any library as an int; anything else, a boolean or fraction too, raises a TypeError."""
    if isinstance(x, bool) or (isinstance(x, Tensor) and x.dtype == torch.bool):
        raise wrong_type(argument, wanted, x)
    try:
        return operator.index(x)
    except TypeError as error:
        raise wrong_type(argument, wanted, x) from error
