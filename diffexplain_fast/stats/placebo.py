"""What changes that change nothing look like: a null for effects, and decisions about many of them at once."""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.stats.distributions import t_above, t_quantile
from diffexplain_fast.stats.multiplicity import benjamini_hochberg

FLAT = 1e-4
"""Share of an effect below which a deviation is that of a score that is flat where it was measured, not of the effect.

Numbers of a bell shape are so much smaller than what they are to judge only by a chance of the same order; a unit that
is off, a saturated or a masked output, and a count give them always, and other numbers as soon as they leave that.
"""


class Error(NamedTuple):
    """The error of an effect: its standard deviation, and the degrees of freedom of that; 0 where nothing is known.

    A deviation of 0 is that of a score which did not move at all. No bell shape has it, and few numbers that are all 0
    say little of the next one: of n + 1 numbers that might come in any order the only other one is the last with
    probability 1 / (n + 1). There the degrees of freedom are the n that gives the probability of another number.
    """

    deviation: float
    freedom: float

    def spread(self, confidence: float = 0.95) -> float:
        """Return the half-width of the interval of an effect; infinite where nothing is known.

        With a deviation of 0 it is infinite too, or 0 where another number is less probable than 1 - confidence.
        """
        if not self.freedom or (self.deviation == 0 and 1 / (self.freedom + 1) > 1 - confidence):
            return math.inf
        return float(t_quantile((1 + confidence) / 2, self.freedom)) * self.deviation

    def p(self, effect: float) -> float:
        """Return how probable an effect of at least this size is by such an error alone; 1 where nothing is known."""
        if not self.freedom or effect == 0:
            return 1.0
        return _two_sided(effect, self.deviation, self.freedom) if self.deviation else 1 / (self.freedom + 1)


def is_flat(values: Sequence[float], effect: float) -> bool:
    """Return whether a score did not move, or by less than the share ``FLAT`` of an effect, in each of some changes."""
    return all(abs(value) <= FLAT * abs(effect) for value in values)


def placebo_spread(placebos: Sequence[float], confidence: float = 0.95, twice: Sequence[float] = ()) -> float:
    """Return the half-width of Student's prediction interval of one more placebo, whose mean is known to be 0.

    With n placebos and r their root mean square it is t r, t the quantile at n degrees of freedom. With m further
    errors of root mean square q, of which an effect has two, it is t sqrt(r^2 + 2 q^2), t at

        (r^2 + 2 q^2)^2 / (r^4 / n + 4 q^4 / m)

    Args:
        placebos: effects of changes that change nothing, finite; none and nothing in ``twice`` gives infinity, and so
            do few that are all 0, see ``Error``.
        confidence: coverage, in (0, 1).
        twice: independent errors that placebos do not have, and an effect has two of, finite.

    Source: Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics 2 (1946).
    """
    if not 0 < confidence < 1:
        raise wrong_value("confidence", "above 0 and below 1", confidence)
    return placebo_error(placebos, twice).spread(confidence)


def placebo_error(placebos: Sequence[float], twice: Sequence[float] = ()) -> Error:
    """Return the error of one effect; see ``placebo_spread``."""
    return Error(*_error((1, placebos), (2, twice)))


def error_of_sum(errors: Sequence[Error], shared: bool = False) -> Error:
    """Return the error of the sum of effects that err independently, with Satterthwaite's degrees of freedom.

    Errors that are equal are one estimate, such as those of pictures that share their placebos, and have its degrees of
    freedom once.

    Args:
        errors: of each effect, at least one, of which something is known.
        shared: whether all are estimated from the same numbers, so that together they have the fewest degrees of
            freedom of one of them.
    """
    variance, least = sum(one.deviation**2 for one in errors), min(one.freedom for one in errors)
    if all(one.deviation == 0 for one in errors):
        return Error(0.0, _zeros(sum(1 / (one.freedom + 1) for one in errors)))
    parts = [(one.deviation**2 * count, one.freedom) for one, count in Counter(errors).items()]
    uncertain = sum(part**2 / freedom for part, freedom in parts)
    return Error(math.sqrt(variance), least if shared or uncertain == 0 else variance**2 / uncertain)


def placebo_p(effect: float, placebos: Sequence[float], twice: Sequence[float] = ()) -> float:
    """Return how probable an effect of at least this size is if it is one more placebo; 1 without placebos.

    Args:
        effect: measured.
        placebos: effects of changes that change nothing, finite.
        twice: see ``placebo_spread``.
    """
    return placebo_error(placebos, twice).p(effect)


def mixed_placebo_p(effect: float, parts: Sequence[tuple[float, Sequence[float]]]) -> float:
    """Return how probable an effect of at least this size is if it is one more placebo, of a kind drawn by its share.

    Its variance is the mean of the kinds' by their shares, with Satterthwaite's degrees of freedom. Where all placebos
    are 0 it is the probability of another number, see ``Error``.

    Args:
        effect: measured.
        parts: of every kind its share, above 0, all together 1, and its placebos, at least one, finite.

    Raises:
        ValueError: a kind without placebos.
    """
    if not parts or not all(some for _, some in parts):
        raise wrong_value("parts", "placebos of every kind", [len(some) for _, some in parts])
    return Error(*_error(*parts)).p(effect)


def student_p(values: Sequence[float]) -> float:
    """Return the two-sided p-value of Student's test that the mean of a sample is 0.

    It is never below that of n numbers which are equal, as far as ``FLAT`` tells: such numbers have no bell shape. If
    errors have either sign equally often, as Student's do, all n have the same one with probability 2^(1 - n).

    Args:
        values: at least two, finite.

    Raises:
        ValueError: fewer than two.

    Source: Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    if len(values) < 2:
        raise wrong_value("values", "at least 2", len(values))
    sample = torch.tensor(list(values), dtype=torch.float64, device="cpu")
    mean, error, freedom = float(sample.mean()), float(sample.std()) / math.sqrt(len(values)), len(values) - 1
    if mean == 0:
        return 1.0
    return max(_two_sided(mean, error, freedom) if error else 0.0, 2.0**-freedom if is_flat([error], mean) else 0.0)


def _error(*kinds: tuple[float, Sequence[float]]) -> tuple[float, float]:
    """Return the deviation of an effect that is truly 0, and its degrees of freedom, from factors and errors.

    An effect has as many errors of a kind as its factor says, or one with that probability: where all are 0, another
    number is at most as probable as the sum of factor / (n + 1).
    """
    parts = [(factor * fmean(value**2 for value in some), len(some)) for factor, some in kinds if some]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0, _zeros(sum(factor / (len(some) + 1) for factor, some in kinds if some)) if parts else 0.0
    return math.sqrt(variance), variance**2 / sum(part**2 / count for part, count in parts)


def _zeros(chance: float) -> float:
    """Return how many numbers that are all 0 leave this probability of another one, 0 for certainty."""
    return max(1 / chance - 1, 0.0)


def _two_sided(value: float, deviation: float, freedom: float) -> float:
    """Return the probability that Student's t is at least as far from 0 as a value in units of its deviation."""
    return float(2 * t_above(abs(value) / deviation, freedom))


def adjusted_p(values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number: at most a share q of those below q are false, on average.

    Args:
        values: p-values in [0, 1].

    Source: Benjamini and Hochberg, "Controlling the false discovery rate", JRSS B 57 (1995).
    """
    adjusted: list[float] = benjamini_hochberg(np.array(values, dtype=np.float64)).tolist()
    return adjusted
