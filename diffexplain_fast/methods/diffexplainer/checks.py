"""Checks of single options."""

import math
from collections.abc import Callable, Sequence
from numbers import Real

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.models.labels import check_text
from diffexplain_fast.targets import whole_number


def checked_count(name: str, value: object, least: int) -> int:
    """Return a whole number of any library as an int.

    Raises:
        TypeError: no whole number.
        ValueError: below ``least``.
    """
    count: int = whole_number(name, value, f"a whole number of at least {least}")
    if count < least:
        raise wrong_value(name, f"a whole number of at least {least}", count)
    return count


def checked_number(name: str, value: object, wanted: str, inside: Callable[[float], bool]) -> float:
    """Return a finite number as a float.

    Raises:
        TypeError: no number.
        ValueError: not finite, or not inside.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise wrong_type(name, f"a number {wanted}", value)
    if not math.isfinite(value) or not inside(float(value)):
        raise wrong_value(name, f"a finite number {wanted}", value)
    return float(value)


def check_candidates(candidates: object) -> None:
    """Refuse candidates that are not None and no list of words.

    Raises:
        TypeError: no list, or of something else.
        ValueError: no word in it, an empty word, or text that no file can hold.
    """
    if candidates is None:
        return
    if isinstance(candidates, str) or not isinstance(candidates, Sequence):
        raise wrong_type("candidates", "a list of words", candidates)
    if not candidates:
        raise wrong_value("candidates", "at least one word, or None", candidates)
    for word in candidates:
        if not isinstance(word, str) or not word.strip():
            raise wrong_value("candidates", "words that are not empty", repr(word))
    check_text("candidates", candidates)
