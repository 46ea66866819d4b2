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


class Error(NamedTuple):
    """The error of an effect: its standard deviation, and the degrees of freedom of that; 0 where nothing is known."""

    deviation: float
    freedom: float

    def spread(self, confidence: float = 0.95) -> float:
        """Return the half-width of the interval of an effect."""
        return float(t_quantile((1 + confidence) / 2, self.freedom)) * self.deviation if self.freedom else 0.0

    def p(self, effect: float) -> float:
        """Return how probable an effect of at least this size is by such an error alone; 1 where nothing is known."""
        return _two_sided(effect, self.deviation, self.freedom) if self.freedom else 1.0


def placebo_spread(placebos: Sequence[float], confidence: float = 0.95, twice: Sequence[float] = ()) -> float:
    """Return the half-width of Student's prediction interval of one more placebo, whose mean is known to be 0.

    With n placebos and r their root mean square it is t r, t the quantile at n degrees of freedom. With m further
    errors of root mean square q, of which an effect has two, it is t sqrt(r^2 + 2 q^2), t at

        (r^2 + 2 q^2)^2 / (r^4 / n + 4 q^4 / m)

    Args:
        placebos: effects of changes that change nothing, finite; none and nothing in ``twice`` gives 0.
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

    Its variance is the mean of the kinds' by their shares, with Satterthwaite's degrees of freedom.

    Args:
        effect: measured.
        parts: of every kind its share, above 0, all together 1, and its placebos, at least one, finite.

    Raises:
        ValueError: a kind without placebos.
    """
    if not parts or not all(some for _, some in parts):
        raise wrong_value("parts", "placebos of every kind", [len(some) for _, some in parts])
    return _two_sided(effect, *_error(*parts))


def student_p(values: Sequence[float]) -> float:
    """Return the two-sided p-value of Student's test that the mean of a sample is 0.

    Args:
        values: at least two, finite.

    Raises:
        ValueError: fewer than two.

    Source: Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    if len(values) < 2:
        raise wrong_value("values", "at least 2", len(values))
    sample = torch.tensor(list(values), dtype=torch.float64, device="cpu")
    return _two_sided(float(sample.mean()), float(sample.std()) / math.sqrt(len(values)), len(values) - 1)


def _error(*kinds: tuple[float, Sequence[float]]) -> tuple[float, float]:
    """Return the deviation of an effect that is truly 0, and its degrees of freedom, from factors and errors."""
    parts = [(factor * fmean(value**2 for value in some), len(some)) for factor, some in kinds if some]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0, sum(count for _, count in parts)
    return math.sqrt(variance), variance**2 / sum(part**2 / count for part, count in parts)


def _two_sided(value: float, deviation: float, freedom: float) -> float:
    """Return the probability that Student's t is at least as far from 0 as a value in units of its deviation."""
    if deviation == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * t_above(abs(value) / deviation, freedom))


def adjusted_p(values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number: at most a share q of those below q are false, on average.

    Args:
        values: p-values in [0, 1].

    Source: Benjamini and Hochberg, "Controlling the false discovery rate", JRSS B 57 (1995).
    """
    adjusted: list[float] = benjamini_hochberg(np.array(values, dtype=np.float64)).tolist()
    return adjusted
