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
from itertools import combinations
from typing import NamedTuple

import numpy as np

from diffexplain_fast.stats.coding import columns, indicators

_RIDGES = 2.0 ** np.arange(-6, 8)
"""Variances of the noise over that of what is predicted; beside them no prediction at all is tried."""
_NOTHING = 1e-9
"""Value of a kernel, over its mean diagonal, that is nothing beside the smallest of ``_RIDGES``."""
_WIDE = 4
"""Features for each picture above which a kernel of pictures by pictures is smaller."""
_LEAST_FREE = 1e-6
"""One minus the leverage below which a picture is predicted by no other."""


class _Left(NamedTuple):
    """A kernel beside the free columns: its values and vectors, and what both leave, where the kernel is nothing.

    Attributes:
        values: float [rank], above 0.
        vectors: float [pictures, rank].
        free: orthonormal basis of the free columns, float [pictures, their rank].
        beside: float [pictures]: how much of a picture no free column takes.
    """

    values: np.ndarray
    vectors: np.ndarray
    free: np.ndarray
    beside: np.ndarray

    def rest(self, columns: np.ndarray) -> np.ndarray:
        """Return columns [pictures, any] without what the free columns take."""
        return np.asarray(columns - self.free @ (self.free.T @ columns))


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
    single = [_features(design[:, column], count, weights) for column, count in enumerate(levels[:groups])]
    if sum(a.shape[1] * b.shape[1] for a, b in combinations(single, 2)) > _WIDE * len(design):
        alike = [one @ one.T for one in single]
        both = _features_of(sum((a * b for a, b in combinations(alike, 2)), np.zeros((len(design), len(design)))))
    else:
        none = np.zeros((len(design), 1, 0))
        pairs = [a[:, :, None] * b[:, None, :] for a, b in combinations(single, 2)]
        both = np.concatenate([one.reshape(len(design), -1) for one in (*pairs, none)], 1)
    return _predicted(_beside(columns(design, levels), both), [both], outcomes)[0]


def other_columns(
    design: np.ndarray,
    levels: Sequence[int],
    outcomes: np.ndarray,
    weights: np.ndarray | None = None,
    beside: Sequence[np.ndarray] = (),
    words: Sequence[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Return what the other columns add to outcomes of few pictures, as all other pictures tell it.

    The values of all columns are a Gaussian process around the mean, because too few pictures tell them apart freely.
    What a column does itself is a part of that, or free: of a process that is shrunk, some is left for whatever goes
    along with the column, which then would be taken for something else than the column's doing.

    Args:
        design: see ``pairs_of_values``.
        levels: see there.
        outcomes: float [pictures, outcomes].
        weights: see ``least_squares``.
        beside: what else moves the outcomes and no column tells, [pictures, any] each, of mean zero in every value of
            every column, or of any mean with ``words``.
        words: of every column, [pictures, any] each: what the column may do is any sum of these and a constant, and
            nothing of it is taken for the doing of the others; None where it is as uncertain as theirs.

    Returns:
        For every column float [pictures, outcomes]: what all columns but this one add, and what is beside them.
    """
    single = [_features(design[:, column], count, weights) for column, count in enumerate(levels)]
    more = [one / np.sqrt(max(float((one**2).sum(1).mean()), 1e-300)) for one in beside]
    ones, none = np.ones((len(design), 1)), np.zeros((len(design), 0))
    others = [[one for at, one in enumerate(single) if at != column] + more for column in range(len(levels))]
    parts = [np.concatenate([none, *one], 1) for one in others]
    if words is None:
        return _predicted(_beside(ones, np.concatenate([*single, *more], 1)), parts, outcomes)
    pairs = zip(words, parts, strict=True)
    return [_predicted(_beside(np.concatenate([ones, own], 1), part), [part], outcomes)[0] for own, part in pairs]


def _features(values: np.ndarray, count: int, weights: np.ndarray | None) -> np.ndarray:
    """Return float [pictures, count] whose products say how alike two pictures are in one column; the mean over its
    values is zero."""
    named = indicators(values[:, None], (count,))
    shares = named.sum(0) if weights is None else weights @ named
    centred = named - named.sum(1, keepdims=True) * shares / max(float(shares.sum()), 1e-300)
    return np.asarray(centred / np.sqrt(max(float((centred**2).sum(1).mean()), 1e-300)))


def _features_of(kernel: np.ndarray) -> np.ndarray:
    """Return features [pictures, pictures] whose products are a kernel."""
    values, vectors = np.linalg.eigh(kernel)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))


def _beside(free: np.ndarray, features: np.ndarray) -> _Left:
    """Return the kernel of features [pictures, any] in the directions beside the columns of ``free``."""
    basis, sizes, _ = np.linalg.svd(free, full_matrices=False)
    basis = basis[:, sizes > 1e-9 * sizes[0]]
    rest = features - basis @ (basis.T @ features)
    wide = rest.shape[1] > len(rest)
    values, vectors = np.linalg.eigh(rest @ rest.T if wide else rest.T @ rest)
    some = values > _NOTHING * max(float((features**2).sum(1).mean()), 1e-300)
    vectors = vectors[:, some] if wide else rest @ (vectors[:, some] / np.sqrt(values[some]))
    return _Left(values[some], vectors, basis, 1 - (basis**2).sum(1))


def _predicted(left: _Left, parts: Sequence[np.ndarray], outcomes: np.ndarray) -> list[np.ndarray]:
    """Return what parts of a kernel add, each picture predicted from all others, [pictures, outcomes] for each part.

    Leaving a picture out is the same as putting its prediction in its place, so that one fit serves all pictures. With
    values v and vectors u of the kernel and R the projection beside the free columns, the inverse is R / ridge plus the
    sum of u u' (1 / (v + ridge) - 1 / ridge), so that nothing grows with the square of the pictures.

    Args:
        left: the kernel.
        parts: features of each part, float [pictures, any].
        outcomes: float [pictures, outcomes].
    """
    spread, outside = left.vectors.T @ outcomes, left.rest(outcomes)
    inside = [part @ (part.T @ left.vectors) * left.vectors for part in parts]
    beside = [(part * left.rest(part)).sum(1) for part in parts]
    found = [np.zeros_like(outcomes) for _ in parts]
    least = (_left_out(left, outside, left.beside) ** 2).sum(0)
    for ridge in _RIDGES:
        more = 1 / (left.values + ridge) - 1 / ridge
        solved = outside / ridge + left.vectors @ (more[:, None] * spread)
        error = _left_out(left, solved, left.beside / ridge + left.vectors**2 @ more)
        better = (error**2).sum(0) < least * (1 - 1e-9)  # equal ones differ by rounding
        least = np.where(better, (error**2).sum(0), least)
        for place, part in enumerate(parts):
            own = inside[place] @ more + beside[place] / ridge
            guess = part @ (part.T @ solved) - own[:, None] * error
            found[place] = np.where(better, guess, found[place])
    return found


def _left_out(left: _Left, solved: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return every outcome minus what all other pictures predict for it, float [pictures, outcomes].

    It is 0 for a picture that decides a free column alone, because no other picture tells anything about it.

    Args:
        left: the kernel.
        solved: its inverse times the outcomes, float [pictures, outcomes].
        own: diagonal of its inverse, float [pictures].
    """
    known = left.beside > _LEAST_FREE
    return np.asarray(known[:, None] * solved / np.where(known, own, 1.0)[:, None])
