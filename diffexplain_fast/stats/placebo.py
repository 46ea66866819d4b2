"""What changes that change nothing look like: a null for effects, and decisions about many of them at once."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.stats.distributions import t_above
from diffexplain_fast.stats.intervals import student_quantile
from diffexplain_fast.stats.multiplicity import benjamini_hochberg


def placebo_spread(placebos: Sequence[float], confidence: float = 0.95) -> float:
    """Return the half-width of Student's prediction interval of one more placebo, whose mean is known to be 0.

    With n placebos and r their root mean square it is t r, t the quantile at n degrees of freedom.

    Args:
        placebos: effects of changes that change nothing, finite; none gives 0.
        confidence: coverage, in (0, 1).
    """
    if not 0 < confidence < 1:
        raise wrong_value("confidence", "above 0 and below 1", confidence)
    return student_quantile((1 + confidence) / 2, len(placebos)) * _size(placebos) if placebos else 0.0


def placebo_p(effect: float, placebos: Sequence[float]) -> float:
    """Return how probable an effect of at least this size is if it is one more placebo; 1 without placebos.

    Args:
        effect: measured.
        placebos: effects of changes that change nothing, finite.
    """
    return _two_sided(effect, _size(placebos), len(placebos)) if placebos else 1.0


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


def _size(values: Sequence[float]) -> float:
    return math.sqrt(sum(value**2 for value in values) / len(values))


def _two_sided(value: float, deviation: float, freedom: int) -> float:
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
