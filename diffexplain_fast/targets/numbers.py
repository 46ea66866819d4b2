"""Whole numbers of any library as ints."""

import operator
from typing import SupportsIndex

import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_type


def whole_number(argument: str, x: object, wanted: str = "a whole number") -> int:
    """Return an integer of any library as an int; any other value, also a boolean or fraction, raises a TypeError."""
    flag = isinstance(x, bool) or (isinstance(x, Tensor) and x.dtype == torch.bool)
    if flag or not isinstance(x, SupportsIndex):
        raise wrong_type(argument, wanted, x)
    try:
        return operator.index(x)
    except TypeError as error:
        raise wrong_type(argument, wanted, x) from error
