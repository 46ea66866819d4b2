"""What changes that change nothing look like: a null for effects, and decisions about many of them at once."""

import math
from collections.abc import Sequence

import torch

from diffexplain_fast.errors import wrong_value


def placebo_spread(placebos: Sequence[float], confidence: float = 0.95) -> float:
    """Return the smallest value that at least this share of the placebos' sizes does not exceed, 0 without placebos.

    Args:
        placebos: effects of changes that change nothing.
        confidence: share, in (0, 1).
    """
    if not 0 < confidence < 1:
        raise wrong_value("confidence", "above 0 and below 1", confidence)
    sizes = sorted(abs(value) for value in placebos)
    return sizes[min(math.ceil(confidence * (len(sizes) + 1)), len(sizes)) - 1] if sizes else 0.0


def placebo_p(effect: float, placebos: Sequence[float]) -> float:
    """Return how probable an effect of at least this size is under the null: (1 + placebos as large) / (1 + placebos).

    Args:
        effect: measured.
        placebos: effects of changes that change nothing.

    Source: Phipson and Smyth, "Permutation p-values should never be zero" (2010), eq. 2.
    """
    as_large = sum(abs(value) >= abs(effect) for value in placebos)
    return (1 + as_large) / (1 + len(placebos))


def student_p(values: Sequence[float]) -> float:
    """Return the two-sided p-value of Student's test that the mean of a sample is 0.

    The tail is integrated by Simpson's rule in the angle atan(t / sqrt(n)), where the density is c cos^(n - 1).

    Args:
        values: at least two, finite.

    Raises:
        ValueError: fewer than two.

    Source: Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    if len(values) < 2:
        raise wrong_value("values", "at least 2", len(values))
    sample = torch.tensor(list(values), dtype=torch.float64, device="cpu")
    spread, mean = float(sample.std()), float(sample.mean())
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    freedom = len(values) - 1
    start = math.atan(abs(mean) / spread * math.sqrt(len(values)) / math.sqrt(freedom))
    angles = torch.linspace(start, math.pi / 2, 2001, dtype=torch.float64, device="cpu")
    heights = angles.cos().clamp_min(0).pow(freedom - 1)
    area = float(heights[:-1:2].sum() + 4 * heights[1::2].sum() + heights[2::2].sum()) * (math.pi / 2 - start) / 6000
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    return min(1.0, 2 * scale * area)


def adjusted_p(values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number: at most a share q of those below q are false, on average.

    Args:
        values: p-values in [0, 1].

    Source: Benjamini and Hochberg, "Controlling the false discovery rate", JRSS B 57 (1995).
    """
    order = sorted(range(len(values)), key=lambda i: -values[i])
    found, least = [0.0] * len(values), 1.0
    for place, i in enumerate(order):
        least = min(least, values[i] * len(values) / (len(values) - place))
        found[i] = least
    return found
