"""Confidence intervals for rates and means over random start latents."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import torch

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.stats.distributions import t_quantile


def wilson_interval(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a rate, which stays inside [0, 1] and keeps its coverage for small n.

    With p = hits / n and z the normal quantile at (1 + confidence) / 2:

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Args:
        hits: successes, 0 to n.
        n: trials, at least 1.
        confidence: coverage, in (0, 1).

    Returns:
        Lower and upper end.

    Raises:
        ValueError: an argument out of its range.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    if n < 1:
        raise wrong_value("n", "at least 1 trial", n)
    if not 0 <= hits <= n:
        raise wrong_value("hits", f"0 to {n}", hits)
    return wilson_of_rate(hits / n, n, confidence)


def wilson_of_rate(rate: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a rate among trials that are worth a number of independent ones.

    Args:
        rate: share of successes, in [0, 1].
        n: number of independent trials, above 0, which need not be whole.
        confidence: coverage, in (0, 1).

    Source: see ``wilson_interval``.
    """
    z = _quantile(confidence)
    centre = rate + z * z / (2 * n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # The ends for no hits and for only hits are exactly 0 and 1, which rounding would change.
    return 0.0 if rate == 0 else (centre - half) / scale, 1.0 if rate == 1 else (centre + half) / scale


def mean_interval(values: Sequence[float] | torch.Tensor, confidence: float = 0.95) -> tuple[float, float] | None:
    """Return Student's interval of a mean: mean -+ t s / sqrt(n), s the standard deviation with divisor n - 1.

    Args:
        values: finite numbers [n], n at least 1.
        confidence: coverage, in (0, 1).

    Returns:
        Lower and upper end, or None for a single value, which has no spread.

    Raises:
        ValueError: an argument out of its range.

    Source: Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    sample = torch.as_tensor(values, dtype=torch.float64, device="cpu")
    if sample.ndim != 1 or len(sample) == 0 or not sample.isfinite().all():
        raise wrong_value("values", "a list of finite numbers", values)
    _quantile(confidence)
    if len(sample) == 1:
        return None
    half = student_quantile((1 + confidence) / 2, len(sample) - 1) * float(sample.std()) / math.sqrt(len(sample))
    return float(sample.mean()) - half, float(sample.mean()) + half


def student_quantile(p: float, freedom: int) -> float:
    """Return the quantile of Student's t distribution.

    Args:
        p: probability, from 1/2 to below 1.
        freedom: degrees of freedom n, at least 1.

    Raises:
        ValueError: an argument out of its range.
    """
    if not 0.5 <= p < 1:
        raise wrong_value("p", "a probability from 0.5 to below 1", p)
    if freedom < 1:
        raise wrong_value("freedom", "at least 1", freedom)
    return float(t_quantile(p, freedom))


def bootstrap_interval(
    values: Sequence[float] | torch.Tensor,
    generator: torch.Generator,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean.

    The values are drawn ``resamples`` times with replacement; the ends are the (1 - confidence) / 2 and
    (1 + confidence) / 2 quantiles of the means.

    Args:
        values: finite numbers [n], n at least 1.
        generator: CPU generator; the same state gives the same interval.
        confidence: coverage, in (0, 1).
        resamples: number of draws, at least 1.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: an argument out of its range.

    Source: B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979).
    """
    sample = torch.as_tensor(values, dtype=torch.float64, device="cpu")
    if sample.ndim != 1 or len(sample) == 0 or not sample.isfinite().all():
        raise wrong_value("values", "a list of finite numbers", values)
    if resamples < 1:
        raise wrong_value("resamples", "at least 1", resamples)
    _quantile(confidence)
    drawn = torch.randint(len(sample), (resamples, len(sample)), generator=generator, device="cpu")
    ends = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64, device="cpu")
    low, high = sample[drawn].mean(1).quantile(ends).tolist()
    return low, high


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise wrong_value("confidence", "above 0 and below 1", confidence)
    return NormalDist().inv_cdf((1 + confidence) / 2)
