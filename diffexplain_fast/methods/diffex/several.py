"""Means over pictures: equal pictures are one, and no interval is narrower than the pictures' own errors allow."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from diffexplain_fast.stats.intervals import mean_interval
from diffexplain_fast.stats.placebo import Error, error_of_sum, is_flat, student_p

_LEVEL = 0.05
"""Of intervals: 1 minus their coverage."""


class Measured(NamedTuple):
    """A number of one picture.

    Attributes:
        picture: equal for equal pictures.
        value: the number.
        low: lower end of its interval.
        high: upper end.
        error: its own, None if it is not known.
    """

    picture: int
    value: float
    low: float
    high: float
    error: Error | None


class Mean(NamedTuple):
    """The mean over pictures, its interval, and the p-value of Student's test; 0 of a single picture."""

    value: float
    low: float
    high: float
    p: float
    pictures: int


def mean_of(some: Sequence[Measured]) -> Mean:
    """Return the mean of numbers over pictures, each of which counts once.

    The interval is Student's, and never narrower than that of a mean of numbers with the pictures' own errors: pictures
    that are nearly the same are drawn with the same noise, and vary less among each other than each of them errs.
    Equal pictures are one whose number is the mean of theirs; that of a single picture is as wide as the widest of it.
    Numbers that are equal, as a score gives that is flat, have no width of their own: where no error is known either,
    the ends are infinite while ``student_p`` of so many equal numbers is above 0.05.

    Args:
        some: at least one.
    """
    by_picture: dict[int, list[Measured]] = {}
    for one in some:
        by_picture.setdefault(one.picture, []).append(one)
    values = [fmean(one.value for one in same) for same in by_picture.values()]
    if len(values) == 1 and len(some) == 1:
        return Mean(some[0].value, some[0].low, some[0].high, 0.0, 1)
    middle = fmean(values)
    if len(values) == 1:
        low, high = min(one.low - one.value for one in some), max(one.high - one.value for one in some)
        return Mean(middle, middle + low, middle + high, 0.0, 1)
    low, high = mean_interval(values) or (middle, middle)
    own = [max(known) for same in by_picture.values() if (known := [one.error for one in same if one.error])]
    p = student_p(values)
    if not own and is_flat([value - middle for value in values], middle) and 2.0 ** (1 - len(values)) > _LEVEL:
        return Mean(middle, -math.inf, math.inf, p, len(values))
    if own:
        # Pictures whose errors are not known err like the others.
        whole = error_of_sum(own)
        error = whole._replace(deviation=whole.deviation / math.sqrt(len(own) * len(values)))
        low, high, p = min(low, middle - error.spread()), max(high, middle + error.spread()), max(p, error.p(middle))
    return Mean(middle, low, high, p, len(values))


def once(pictures: Sequence[int], values: Sequence[float]) -> float:
    """Return the mean of values, in which equal pictures count once."""
    return fmean(fmean(v for p, v in zip(pictures, values, strict=True) if p == one) for one in dict.fromkeys(pictures))
