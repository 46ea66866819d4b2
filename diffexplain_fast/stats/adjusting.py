"""What else is in an outcome beside the effect of one group: predicted from other pictures, and taken away.

In a trial the other groups of a picture were drawn without regard to the one that is looked at, so what they add is
noise. A model predicts it for every picture from all other pictures. What is taken away has mean zero by the design,
however wrong the model is, so that no effect changes and errors shrink.

Source: J. M. Robins, A. Rotnitzky and L. P. Zhao, "Estimation of regression coefficients when some regressors are not
always observed", JASA 89 (1994), augmented inverse probability weighting, with the design's own probabilities;
cross-fitted, V. Chernozhukov et al., "Double/debiased machine learning for treatment and structural parameters",
Econometrics Journal 21 (2018).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diffexplain_fast.stats.coding import columns, indicators

_RIDGES = 2.0 ** np.arange(-6, 8)
"""Variances of the noise over that of what is predicted; beside them no prediction at all is tried."""
_LEAST_FREE = 1e-6
"""One minus the leverage below which a picture is predicted by no other."""


class _Left(NamedTuple):
    """Values and vectors of a kernel in the directions that no free column takes."""

    values: np.ndarray
    vectors: np.ndarray


def pairs_of_values(
    design: np.ndarray, levels: Sequence[int], groups: int, outcomes: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return what pairs of values add to every outcome of every picture, as all other pictures tell it.

    The single values are free, the pairs of values of two groups a Gaussian process whose size errs least in pictures
    that are left out, with none at all among the sizes tried.

    Args:
        design: int [pictures, columns], see ``balanced_design``; a caption has no pair with a group that it leaves out.
        levels: number of values of every column.
        groups: number of columns that are groups, the first ones; free words have no pairs.
        outcomes: float [pictures, outcomes].
        weights: see ``least_squares``.

    Returns:
        float [pictures, outcomes]; its mean over the values of the other groups is zero for every value.
    """
    alike = [_alike(design[:, column], count, weights) for column, count in enumerate(levels[:groups])]
    empty = np.zeros((len(design), len(design)))
    kernel = (sum(alike, empty) ** 2 - sum((one**2 for one in alike), empty)) / 2
    left = _beside(columns(design, levels), kernel)
    return _predicted(left, [kernel], outcomes)[0]


def other_columns(
    design: np.ndarray,
    levels: Sequence[int],
    outcomes: np.ndarray,
    weights: np.ndarray | None = None,
    beside: Sequence[np.ndarray] = (),
) -> list[np.ndarray]:
    """Return what the other columns add to outcomes of few pictures, as all other pictures tell it.

    The values of all columns are a Gaussian process around the mean, because too few pictures tell them apart freely.

    Args:
        design: see ``pairs_of_values``.
        levels: see there.
        outcomes: float [pictures, outcomes].
        weights: see ``least_squares``.
        beside: what else moves the outcomes and no column tells, [pictures, any] each, of mean zero in every column.

    Returns:
        For every column float [pictures, outcomes]: what all columns but this one add, and what is beside them.
    """
    alike = [_alike(design[:, column], count, weights) for column, count in enumerate(levels)]
    more = [one @ one.T / max(float((one**2).sum(1).mean()), 1e-300) for one in beside]
    kernel = sum((*alike, *more), np.zeros((len(design), len(design))))
    left = _beside(np.ones((len(design), 1)), kernel)
    return _predicted(left, [kernel - one for one in alike], outcomes)


def _alike(values: np.ndarray, count: int, weights: np.ndarray | None) -> np.ndarray:
    """Return how alike two pictures are in one column, float [pictures, pictures]; the mean over its values is zero."""
    named = indicators(values[:, None], (count,))
    shares = named.sum(0) if weights is None else weights @ named
    centred = named - named.sum(1, keepdims=True) * shares / max(float(shares.sum()), 1e-300)
    return np.asarray(centred @ centred.T / max(float((centred**2).sum(1).mean()), 1e-300))


def _beside(free: np.ndarray, kernel: np.ndarray) -> _Left:
    """Return the kernel in the directions beside the columns of ``free``."""
    left, sizes, _ = np.linalg.svd(free, full_matrices=True)
    rest = left[:, int((sizes > 1e-9 * sizes[0]).sum()) :]
    values, inside = np.linalg.eigh(rest.T @ kernel @ rest)
    return _Left(np.maximum(values, 0), rest @ inside)


def _predicted(left: _Left, parts: Sequence[np.ndarray], outcomes: np.ndarray) -> list[np.ndarray]:
    """Return what parts of a kernel add, each picture predicted from all others, [pictures, outcomes] for each part.

    Leaving a picture out is the same as putting its prediction in its place, so that one fit serves all pictures.
    """
    values, vectors = left
    spread = vectors.T @ outcomes
    crossed = [part @ vectors for part in parts]
    found = [np.zeros_like(outcomes) for _ in parts]
    least = (_left_out(np.ones_like(values), vectors, spread) ** 2).sum(0)
    for ridge in _RIDGES:
        inverse = 1 / (values + ridge)
        error = _left_out(inverse, vectors, spread)
        better = (error**2).sum(0) < least
        least = np.where(better, (error**2).sum(0), least)
        for place, both in enumerate(crossed):
            guess = both @ (inverse[:, None] * spread) - (both * vectors @ inverse)[:, None] * error
            found[place] = np.where(better, guess, found[place])
    return found


def _left_out(inverse: np.ndarray, vectors: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return every outcome minus what all other pictures predict for it, float [pictures, outcomes].

    It is 0 for a picture that decides a free column alone, because no other picture tells anything about it.
    """
    known = (vectors**2).sum(1) > _LEAST_FREE
    own = np.where(known, vectors**2 @ inverse, 1.0)
    return np.asarray(known[:, None] * (vectors @ (inverse[:, None] * spread)) / own[:, None])
