"""What the ops refuse in the same words: another kind, another shape, dtype or device, weights that are trained."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_type, wrong_value


def check_tensors(**values: object) -> None:
    """Refuse what is no tensor.

    Raises:
        TypeError: a value is of another kind; None too.
    """
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise wrong_type(name, "a tensor", value)


def check_like(x: Tensor, shape: Sequence[int], /, float32_too: bool = False, **values: object) -> None:
    """Refuse tensors that do not belong to ``x``; None is let through.

    Args:
        x: what they belong to.
        shape: their shape.
        float32_too: float32 will do beside the dtype of ``x``.
        values: tensors by name.

    Raises:
        TypeError: a value is of another kind.
        ValueError: another shape, dtype or device.
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
    """Refuse what is no whole number, or a smaller one.

    Args:
        least: the smallest that is accepted.
        values: numbers by name.

    Raises:
        TypeError: a value is of another kind.
        ValueError: it is smaller.
    """
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(name, "a whole number", value)
        if value < least:
            raise wrong_value(name, f"at least {least}", value)


def check_positive(**values: object) -> None:
    """Refuse what is no number above 0.

    Raises:
        TypeError: a value is of another kind.
        ValueError: it is 0, negative or not a number.
    """
    for name, value in values.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong_type(name, "a number", value)
        if not value > 0:
            raise wrong_value(name, "a number above 0", value)


def check_frozen(**weights: Tensor | None) -> None:
    """Refuse weights that ask for a gradient, which no op here computes.

    Raises:
        ValueError: a weight requires grad while gradients are recorded.
    """
    for name, weight in weights.items():
        if weight is not None and weight.requires_grad and torch.is_grad_enabled():
            raise wrong_value(
                name, "a frozen weight: weight.detach() or requires_grad_(False)", "one that requires grad"
            )
