"""Checks that all ops share: kind, shape, dtype and device of arguments, and that weights are frozen."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_type, wrong_value


def check_tensors(**values: object) -> None:
    """Refuse values that are not tensors, also None.

    Raises:
        TypeError: a value is not a tensor.
    """
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise wrong_type(name, "a tensor", value)


def check_like(x: Tensor, shape: Sequence[int], /, float32_too: bool = False, **values: object) -> None:
    """Refuse tensors without the dtype and device of ``x`` and the given shape; None is accepted.

    Args:
        x: tensor with the wanted dtype and device.
        shape: wanted shape.
        float32_too: True to accept float32 beside the dtype of ``x``.
        values: tensors by name.

    Raises:
        TypeError: a value is not a tensor.
        ValueError: a tensor has another shape, dtype or device.
    """
    for name, value in values.items():
        if value is None:
            continue
        if not isinstance(value, Tensor):
            raise wrong_type(name, "a tensor", value)
        fits = value.dtype == x.dtype or (float32_too and value.dtype == torch.float32)
        if not fits or value.device != x.device or list(value.shape) != list(shape):
            dtypes = f"{x.dtype} or torch.float32" if float32_too else f"{x.dtype}"
            wanted = f"{dtypes} {list(shape)} on {x.device}"
            raise wrong_value(name, wanted, f"{value.dtype} {list(value.shape)} on {value.device}")


def check_at_least(least: int, **values: object) -> None:
    """Refuse values that are not whole numbers, or are less than a limit.

    Args:
        least: the smallest accepted number.
        values: numbers by name.

    Raises:
        TypeError: a value is not a whole number.
        ValueError: a number is less than ``least``.
    """
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(name, "a whole number", value)
        if value < least:
            raise wrong_value(name, f"at least {least}", value)


def check_positive(**values: object) -> None:
    """Refuse values that are not numbers above 0.

    Raises:
        TypeError: a value is not a number.
        ValueError: a number is 0, negative or NaN.
    """
    for name, value in values.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong_type(name, "a number", value)
        if not value > 0:
            raise wrong_value(name, "a number above 0", value)


def check_frozen(**frozen: Tensor | None) -> None:
    """Refuse weights and other tensors that require a gradient, because no op computes it.

    Raises:
        ValueError: a tensor requires grad while gradients are recorded.
    """
    for name, tensor in frozen.items():
        if tensor is not None and tensor.requires_grad and torch.is_grad_enabled():
            wanted = f"a frozen tensor: {name}.detach() or requires_grad_(False)"
            raise wrong_value(name, wanted, "one that requires grad")
