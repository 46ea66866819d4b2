"""Numbers as text: effects and shares that are not zero never look like zero, and no zero has a minus."""

import math
import unicodedata

NOISE = 1e-12
"""Effects up to this size are rounding of zero, and shares as near to all are rounding of it."""
_LARGE = 1e7
"""Effects from this size have an exponent."""
_SIGNIFICANT = 2
"""Digits of the largest of several small effects."""
_MOST_DIGITS = 6
"""Most digits after the point; smaller numbers have an exponent."""
_SHARE_DIGITS = 2
"""Most digits after the point of a percentage."""
UNBOUNDED = "unbounded"
_TO_THE_LEFT = ("R", "AL")
"""Classes of letters that are written from right to left."""


def effect_texts(*values: float, digits: int = 2, signs: str = "+") -> list[str]:
    """Return numbers of one unit that stand together, such as an effect and the ends of its interval.

    They have ``digits`` digits after the point. Where all of them are small, there are more, so that the largest has
    two digits other than zero. One that would still look like zero has its first digit: "+0.004".

    Args:
        values: the numbers; NaN is "-", and infinity "unbounded".
        digits: after the point, for numbers of ordinary size.
        signs: "+" for a plus before positive numbers, "" for none.
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if NOISE < largest < 10**-digits:
        digits = min(_SIGNIFICANT - 1 - math.floor(math.log10(largest)), _MOST_DIGITS)
    return [_effect_text(value, digits, signs) for value in values]


def effect_text(value: float | None, digits: int = 2, signs: str = "+") -> str:
    """Return one number, "-" for None; see ``effect_texts``."""
    return "-" if value is None else effect_texts(value, digits=digits, signs=signs)[0]


def interval_texts(effect: float, low: float, high: float, digits: int = 2, signs: str = "+") -> tuple[str, str]:
    """Return an effect with its sign, and its interval in brackets, such as "+2.50" and "[+2.00, +3.00]".

    Args:
        effect, low, high: in one unit.
        digits: after the point, for numbers of ordinary size.
        signs: of the ends; see ``effect_texts``.
    """
    ends = effect_texts(effect, low, high, digits=digits, signs=signs)[1:]
    said = ends[0] if ends == [UNBOUNDED, UNBOUNDED] else ", ".join(ends)
    return effect_texts(effect, low, high, digits=digits)[0], f"[{said}]"


def _effect_text(value: float, digits: int, signs: str) -> str:
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return UNBOUNDED
    if abs(value) >= _LARGE:
        return f"{value:{signs}.4g}"
    text = f"{value:{signs}.{digits}f}"
    if float(text) != 0:
        return text
    return f"{value:{signs}.1g}" if abs(value) > NOISE else f"{0.0:{signs}.{digits}f}"


def isolated(name: str) -> str:
    """Return a name that stands beside a number; one in letters from right to left does not move the number.

    Args:
        name: any; one without such letters is returned as it is, another one within Unicode's isolates.
    """
    if not any(unicodedata.bidirectional(letter) in _TO_THE_LEFT for letter in name):
        return name
    return f"\N{FIRST STRONG ISOLATE}{name}\N{POP DIRECTIONAL ISOLATE}"


def output_text(value: float) -> str:
    """Return a mean output of a regression with four digits, such as "0.01234"; a zero has no minus."""
    return f"{value + 0.0:.4g}"


def share_text(share: float | None) -> str:
    """Return a share from 0 to 1 as "64 %"; "under 1 %" and "over 99 %" where it would look like none or all.

    Args:
        share: any; "-" for None and NaN.
    """
    if share is None or math.isnan(share):
        return "-"
    text = f"{share:.0%}"
    if text in ("0%", "-0%"):
        return "under 1 %" if share > NOISE else "0 %"
    return "over 99 %" if text == "100%" and share < 1 - NOISE else text.replace("%", " %")


def points_text(difference: float | None) -> str:
    """Return a difference of two shares, from -1 to 1, as "+62 points"; see ``effect_texts``. "-" for None and NaN."""
    if difference is None or math.isnan(difference):
        return "-"
    return f"{_effect_text(100 * difference, 0, '+')} points"


def shares_and_points(first: float, second: float, low: float, high: float) -> tuple[str, str, str, str]:
    """Return two shares, the difference of the printed shares, and its interval, so that the printed numbers agree.

    There are digits after the point, two at most, where a share would look like none or all that is not, or where
    different shares would look equal.

    Args:
        first, second: shares from 0 to 1.
        low, high: interval of first - second.

    Returns:
        Such as "64 %", "2 %", "+62 points" and "[55, 69]".
    """
    digits = next((i for i in range(_SHARE_DIGITS) if _tells(first, second, i)), _SHARE_DIGITS)
    one, two = (_in_units(share, digits) for share in (first, second))
    shown = [f"{share:.{digits}%}".replace("%", " %") for share in (first, second)]
    ends = [_effect_text(100 * end, digits, "") for end in (low, high)]
    return shown[0], shown[1], f"{_effect_text((one - two) / 10**digits, digits, '+')} points", f"[{', '.join(ends)}]"


def _in_units(share: float, digits: int) -> int:
    """Return a share as it is printed, in units of the last printed digit of its percentage."""
    return round(float(f"{share:.{digits}%}".rstrip("%")) * 10**digits)


def _tells(first: float, second: float, digits: int) -> bool:
    """Return whether printed shares look like none or all only where they are, and equal only where they are."""
    units = [(_in_units(share, digits), share) for share in (first, second)]
    hidden = any((at == 0 and share > NOISE) or (at == 100 * 10**digits and share < 1 - NOISE) for at, share in units)
    return not hidden and (units[0][0] != units[1][0] or abs(first - second) <= NOISE)
