"""Options of a pipeline's call that change the inputs of the denoiser, checked when the user passes them."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real

from diffexplain_fast.errors import unknown_name, wrong_type, wrong_value

CallOptions = dict[str, int | tuple[float, float]]
"""``clip_skip`` as a number of layers, sizes as height and width in pixels."""
SIZES = ("original_size", "crops_coords_top_left", "target_size")
NEGATIVE_SIZES = ("negative_original_size", "negative_crops_coords_top_left", "negative_target_size")
"""Micro-conditions of Stable Diffusion XL, height before width; the second tuple is for the unconditional rows."""


def check_room(argument: str, tokens: int, most: int) -> None:
    """Raise a ValueError for a text of more tokens than fit between begin and end of a prompt."""
    if tokens > most:
        raise wrong_value(argument, f"at most {most} tokens between begin and end", f"{tokens} tokens")


def check_call_options(options: Mapping[str, object] | None, known: Sequence[str]) -> CallOptions:
    """Return the options that are not None: ``clip_skip`` as a number, sizes as pairs of numbers.

    Args:
        options: options of diffusers' pipeline by name, or None.
        known: names of the options that the pipeline has.

    Raises:
        TypeError: options that are not a mapping, or a value of another kind.
        UnknownNameError: an option that the pipeline does not have.
        ValueError: a value out of range, or one negative size without the other.
    """
    if options is not None and not isinstance(options, Mapping):
        raise wrong_type("call_options", "a mapping of options of the pipeline's call, or None", options)
    checked: CallOptions = {}
    for name, value in (options or {}).items():
        if name not in known:
            raise unknown_name("call_options", name, known)
        if value is not None:
            checked[name] = check_clip_skip(value) if name == "clip_skip" else _pair(name, value)
    # diffusers reads the negative sizes only if both are given.
    negative_sizes = [name for name in ("negative_original_size", "negative_target_size") if name in checked]
    if len(negative_sizes) == 1 or ("negative_crops_coords_top_left" in checked and not negative_sizes):
        wanted = "negative_original_size and negative_target_size, both or neither (diffusers leaves out one of them)"
        raise wrong_value("call_options", wanted, " and ".join(name for name in NEGATIVE_SIZES if name in checked))
    return checked


def check_clip_skip(value: object) -> int:
    """Return the number of layers to skip at the end.

    Raises:
        TypeError: not a whole number.
        ValueError: below 0.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise wrong_type("clip_skip", "a whole number of layers", value)
    if value < 0:
        raise wrong_value("clip_skip", "at least 0", value)
    return int(value)


def _pair(name: str, value: object) -> tuple[float, float]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise wrong_type(name, "a pair of numbers, height before width", value)
    if len(value) != 2 or not all(map(_is_finite, value)):
        raise wrong_value(name, "a pair of finite numbers, height before width", value)
    height, width = (number if isinstance(number, int | float) else number.item() for number in value)
    return height, width


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
