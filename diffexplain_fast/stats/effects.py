"""Cells: what naming a value does to an outcome, against the median over the values of its group."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.stats.coding import cells_of
from diffexplain_fast.stats.distributions import t_quantile
from diffexplain_fast.stats.regression import Fit, freedom_of

_DRAWS = 256
_LEAST_KEPT = 0.3
"""Share of the means' spread that is never taken for noise.

Without it the errors of equal means are right on average, but small where one estimate lies far out by chance, so that
audits that grow exceed their level: tests/stats/test_decisions.py fails at 0.
"""
_DEVIATION = 1.4826
"""Standard deviation of a normal variable over its median absolute deviation."""

_NO_WEIGHT = 1e-9
"""Weight of a picture in a contrast that is rounding of none."""


@dataclass(frozen=True)
class Effects:
    """What naming a value does to an outcome, for every cell and outcome.

    Attributes:
        levels: number of values of every group; the cells are all values of the first group, then of the next.
        estimate: float [cells, outcomes]: mean outcome of the cell minus the median over its group's values; NaN for a
            value that no caption names.
        error: float [cells, outcomes]: standard error; NaN where it is not known, as of a value of one picture.
        freedom: float [cells, outcomes]: degrees of freedom of the error.
        means: float [cells, outcomes]: mean outcome where the value is named and the other groups are uniform.
        medians: float [cells, outcomes]: median of ``means`` over the values of the cell's group.
        middle: float [cells, outcomes]: weight of the cell in the median of its group.
        pictures: int [cells]: pictures whose captions name the value.
        fewest: float [cells, outcomes]: degrees of freedom of the part of the pictures with the fewest, where an effect
            is averaged over two parts, and infinity where it is not; None where no effect is averaged.
    """

    levels: tuple[int, ...]
    estimate: np.ndarray
    error: np.ndarray
    freedom: np.ndarray
    means: np.ndarray
    medians: np.ndarray
    middle: np.ndarray
    pictures: np.ndarray
    fewest: np.ndarray | None = None

    @property
    def surest_freedom(self) -> np.ndarray:
        """Degrees of freedom with which no tail is too light, float [cells, outcomes].

        Those of an average are matched to its variance as if the shares of its parts were known. They are estimated
        from the same pictures, so that far in the tail the average is as heavy as its smaller part.
        """
        return np.minimum(self.freedom, self.least_freedom)

    @property
    def least_freedom(self) -> np.ndarray:
        """``fewest``, float [cells, outcomes]; infinity everywhere where no effect is averaged."""
        return np.full_like(self.freedom, np.inf) if self.fewest is None else self.fewest

    @property
    def groups(self) -> np.ndarray:
        """Group of every cell, int [cells]."""
        return cells_of(self.levels)[0]

    @property
    def values(self) -> np.ndarray:
        """Value of every cell in its group, int [cells]."""
        return cells_of(self.levels)[1]

    def of(self, outcomes: Sequence[int]) -> "Effects":
        """Return the effects on some of the outcomes."""
        names = ("estimate", "error", "freedom", "means", "medians", "middle")
        fewest = None if self.fewest is None else self.fewest[:, outcomes]
        return replace(self, fewest=fewest, **{name: getattr(self, name)[:, outcomes] for name in names})


def joined(parts: Sequence[Effects]) -> Effects:
    """Return the effects of several trials of one group each as those of one trial of all groups."""
    arrays = ("estimate", "error", "freedom", "means", "medians", "middle", "pictures")
    levels = tuple(count for part in parts for count in part.levels)
    return Effects(levels, *(np.concatenate([getattr(part, name) for part in parts]) for name in arrays))


def against_median(fit: Fit, seed: int = 0) -> Effects:
    """Return every value's effect against the median over the values of its group.

    The estimate is exactly the mean outcome of the value minus the median of the estimated means. For its error the
    means are drawn again around their estimates, which are first shrunk towards their median by the share of their
    spread that is noise. A value's weight is how often the value is in the middle of the redrawn means; two middle ones
    share it where the number of values is even. Where the middle values are far from the others, these are the middle
    values; where all values are equal, all of them, because then the median has about the small error of a mean. The
    variance is the HC3 variance of the value minus the weighted mean of the group's values, times how much more the
    redrawn medians vary than the redrawn weighted means, plus the squared mean shift of the redrawn medians, which
    estimates the median's bias. The degrees of freedom are those of the value against the mean of its group, for all
    outcomes alike.

    Where a value, or one in the middle of its group, is told by a picture that no other predicts, such as the only one
    that names it, the pictures do not say how large the error is: it is NaN beside an estimate.

    A group of one value has nothing to be compared with in its own values, and is compared with being left out only
    by a caller that makes "nothing" a value: its effect is NaN.

    Args:
        fit: the regression.
        seed: of the redrawn means; the same for all outcomes.

    Source: B. Efron, "Estimation and accuracy after model selection", JASA 109 (2014), for the smoothed median.
    """
    groups = fit.groups
    error, freedom = np.full_like(fit.means, np.nan), np.full_like(fit.means, np.nan)
    medians, middle = np.full_like(fit.means, np.nan), np.zeros_like(fit.means)
    random = np.random.default_rng(seed)
    for group in range(len(fit.levels)):
        cells = np.flatnonzero((groups == group) & (fit.pictures > 0))
        if len(cells) < 2:
            continue
        rows = fit.rows[:, cells]
        covariance = _covariance(rows, fit.residuals**2)
        weights, shift, more = _middle(fit.means[cells], covariance, random.standard_normal((_DRAWS, len(cells))))
        difference = np.eye(len(cells)) - weights.T[:, None, :]  # [outcomes, cells, values]
        variance = (difference @ covariance * difference).sum(2).T
        medians[groups == group] = np.median(fit.means[cells], 0)
        middle[cells] = weights
        found = np.sqrt(np.maximum(variance, 0) * more + shift**2)
        error[cells] = np.where(_without_error(rows[fit.alone], weights), np.nan, found)
        freedom[cells] = freedom_of(fit, rows - rows.mean(1, keepdims=True))[:, None]
    return Effects(fit.levels, fit.means - medians, error, freedom, fit.means, medians, middle, fit.pictures)


def _without_error(alone: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return which values have an effect whose error nothing tells, bool [values, outcomes].

    Args:
        alone: float [pictures, values]: weights of the pictures that no other predicts.
        weights: float [values, outcomes]: of the values in the median.
    """
    weighed = np.abs(alone[:, :, None] - (alone @ weights)[:, None, :])
    unknown = (weighed > _NO_WEIGHT).any(0)
    others = unknown.sum(0) - unknown
    return np.asarray(unknown | (others == len(weights) - 1))  # a median is not known beside unknown values only


def _covariance(rows: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Return covariances [outcomes, cells, cells] of ``rows.T @ outcomes``; every picture has a variance of its own.

    Args:
        rows: float [pictures, cells].
        variances: float [pictures, outcomes].
    """
    count = rows.shape[1]
    if count > variances.shape[1]:  # whichever array between is the smaller one
        return np.asarray((rows.T * variances.T[:, None, :]) @ rows)
    pairs = (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)
    return (variances.T @ pairs).reshape(-1, count, count)


def _middle(means: np.ndarray, covariance: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how the median of a group behaves if the means are drawn again.

    The means are first drawn together by the share of their spread that is noise, because estimates of equal means
    lie apart by their errors.

    Args:
        means: float [values, outcomes].
        covariance: float [outcomes, values, values].
        draws: float [draws, values], standard normal.

    Returns:
        Weights [values, outcomes], how often each value is in the middle; the mean redrawn median minus the median
        [outcomes]; and the variance of values minus medians over that of values minus weighted means, at least 1,
        [values, outcomes].
    """
    count = len(means)
    ridge = 1e-12 * np.trace(covariance, axis1=1, axis2=2)[:, None, None] + 1e-300
    root = np.linalg.cholesky(covariance + ridge * np.eye(count))
    centre = np.median(means, 0)
    spread = (_DEVIATION * np.median(np.abs(means - centre), 0)) ** 2
    noise = np.trace(covariance, axis1=1, axis2=2) / count
    kept = np.clip(1 - noise / np.maximum(np.maximum(spread, noise), 1e-300), _LEAST_KEPT, 1)
    likely = centre + kept * (means - centre)
    moved = draws @ root.transpose(0, 2, 1)  # [outcomes, draws, values]
    drawn = likely.T[:, None, :] + moved
    both = drawn.argsort(2)[:, :, [(count - 1) // 2, count // 2]]  # [outcomes, draws, 2]
    medians = np.take_along_axis(drawn, both, 2).mean(2)
    weights = np.stack([(both == value).mean((1, 2)) for value in range(count)], 1)
    linear = (moved - np.einsum("odv,ov->od", moved, weights)[:, :, None]).var(1)
    more = (moved - medians[:, :, None]).var(1) / np.maximum(linear, 1e-300)
    return weights.T, medians.mean(1) - centre, np.maximum(more, 1).T


def interval(
    estimate: np.ndarray, error: np.ndarray, freedom: np.ndarray, level: float | np.ndarray = 0.05
) -> tuple[np.ndarray, np.ndarray]:
    """Return Student's interval, lower and upper end.

    Args:
        estimate, error, freedom: of one shape.
        level: probability of an interval that misses, both sides together, in (0, 1): one number or one a cell.

    Raises:
        ValueError: a level out of its range.
    """
    level = np.asarray(level, dtype=np.float64)
    if not ((level > 0) & (level < 1)).all():
        raise wrong_value("level", "above 0 and below 1", level)
    half = t_quantile(1 - level / 2, freedom) * error
    return estimate - half, estimate + half
