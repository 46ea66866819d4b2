"""Least squares of many outcomes on the values that captions name, with errors that hold in small samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Effects:
    """Cells: what naming a value does to an outcome, against the median over the values of its group.

    A cell is a value of a group; the cells lie in the order of the groups and of their values.

    Attributes:
        groups, values: int [cells].
        pictures: int [cells], pictures whose captions name the value. No verdict under 12.
        estimate, error: float [cells, outcomes]: effect and its standard error; NaN for a value that no caption names.
        freedom: float [cells], degrees of freedom of the error.
        means: float [cells, outcomes]: mean outcome if the value is named and the other groups are uniform.
        medians: float [cells, outcomes]: the median of ``means`` over the values of the cell's group.
    """

    groups: np.ndarray
    values: np.ndarray
    pictures: np.ndarray
    estimate: np.ndarray
    error: np.ndarray
    freedom: np.ndarray
    means: np.ndarray
    medians: np.ndarray


@dataclass(frozen=True)
class Fit:
    """A linear estimate: ``coefficients = rows.T @ outcomes``, and the residuals that its errors come from.

    A clustered error would add ``rows * residuals`` over the pictures of a cluster before squaring.

    Attributes:
        levels: number of values of every group.
        coefficients: [columns, outcomes].
        rows: [pictures, columns], the weight of every picture's outcome in every coefficient.
        residuals: [pictures, outcomes], divided by 1 - leverage (HC3).
        spread: [pictures, pictures], covariance of the residuals for outcomes of variance 1.
        pictures: int [cells], pictures that name a value.
    """

    levels: tuple[int, ...]
    coefficients: np.ndarray
    rows: np.ndarray
    residuals: np.ndarray
    spread: np.ndarray
    pictures: np.ndarray


def least_squares(
    design: np.ndarray, levels: Sequence[int], outcomes: np.ndarray, weights: np.ndarray | None = None
) -> Fit:
    """Return the regression of outcomes on the named values, one additive term a group.

    Args:
        design: int [pictures, groups], see ``balanced_design``.
        levels: number of values of every group.
        outcomes: float [pictures, outcomes]: centred logits, answers (0 or 1), or any others.
        weights: float [pictures], above 0, to re-weight the pictures to another distribution of concepts; an
            effective number of pictures below 50 is refused.

    Raises:
        ValueError: an argument of the wrong shape, not finite, or too few pictures.
    """
    raise NotImplementedError


def against_median(fit: Fit) -> Effects:
    """Return every value's effect against the median over the values of its group."""
    raise NotImplementedError


def effective_pictures(weights: np.ndarray) -> float:
    """Return Kish's effective number of pictures: (sum of weights)^2 / sum of squared weights."""
    raise NotImplementedError


def interval(
    estimate: np.ndarray, error: np.ndarray, freedom: np.ndarray, level: float | np.ndarray = 0.05
) -> tuple[np.ndarray, np.ndarray]:
    """Return Student's interval, lower and upper end; ``level`` is the two-sided error, a number or one a cell."""
    raise NotImplementedError
