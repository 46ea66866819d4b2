"""Whether the concepts of a picture say how it is answered, or something that has no name among them."""

import importlib
from collections.abc import Sequence

import numpy as np

from diffexplain_fast.evidence.calibration import Errors
from diffexplain_fast.results.photographs import Explained
from diffexplain_fast.stats.multiplicity import benjamini_hochberg

_FOLDS, _SIMULATIONS, _RIDGE = 5, 99, 1.0
_FEWEST = 8
"""Pictures that are answered with a class, and that are not, below which nothing is said of the class."""
_ELSEWHERE = 0.1
"""Share of the answers that concepts need not explain."""


def unexplained(
    seen: np.ndarray,
    levels: Sequence[int],
    hits: np.ndarray,
    errors: Sequence[Errors] | None,
    names: Sequence[str],
    seed: int,
) -> list[Explained]:
    """Return for every class whether concepts and their pairs tell the pictures that are answered with it.

    The area under the ROC curve is cross-validated. It is compared with simulations in which concepts decide: a sum of
    one number for each value is fitted, as many pictures as really are answered with the class are answered, those with
    the largest sums, a tenth of them is exchanged for others at random, and then the eye looks at them with its own
    errors. Fitted probabilities that were drawn instead would explain nothing exactly where the classifier answers to
    something without a name, and those of pairs would repeat the answers: simulations of both are as bad as the data.

    Args:
        seen: int [N, groups], -1 where nothing is seen.
        levels: number of values of every group.
        hits: bool [N, classes].
        errors: of the eye in every group; None where they are not known, and the eye is believed.
        names: of the classes.
        seed: of folds and simulations.
    """
    rng = np.random.default_rng([seed, len(seen)])
    folds = rng.permutation(np.arange(len(seen)) % _FOLDS)
    able = [c for c in range(hits.shape[1]) if _FEWEST <= hits[:, c].sum() <= len(hits) - _FEWEST]
    if not able:
        return []
    answers = hits[:, able].astype(np.float64)
    columns = _columns(seen, levels)
    found = _areas(_held_out(columns, answers, folds), answers)
    fitted = _sums(columns, answers)
    below, simulated = np.ones(len(able)), []
    for _ in range(_SIMULATIONS):
        drawn = np.stack([_answered(fitted[:, i], int(answers[:, i].sum()), rng) for i in range(len(able))], 1)
        looked = _columns(_looked_at(seen, levels, errors, rng), levels)
        areas = _areas(_held_out(looked, drawn, folds), drawn)
        simulated.append(areas)
        below += areas <= found
    adjusted = benjamini_hochberg(below / (_SIMULATIONS + 1))
    least = np.quantile(np.stack(simulated), 0.05, axis=0)
    return [
        Explained(names[c], int(answers[:, i].sum()), float(found[i]), float(least[i]), float(p), bool(p > 0.05))
        for i, (c, p) in enumerate(zip(able, adjusted, strict=True))
    ]


def _columns(seen: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """Return whether each value is seen, float [N, values]."""
    return np.concatenate([np.arange(k) == seen[:, [g]] for g, k in enumerate(levels)], 1).astype(np.float64)


def _inverse(columns: np.ndarray) -> np.ndarray:
    """Return the inverse of the kernel of a ridge regression on values and pairs of values, float [N, N]."""
    kernel = (1 + columns @ columns.T) ** 2
    return np.asarray(np.linalg.inv(kernel + _RIDGE * np.eye(len(kernel))))


def _sums(columns: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Return what a ridge regression on values alone says of the pictures that it is fitted to."""
    kernel = 1 + columns @ columns.T
    return np.asarray(kernel @ np.linalg.solve(kernel + _RIDGE * np.eye(len(kernel)), answers))


def _held_out(columns: np.ndarray, answers: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return for every picture what the regression on the other folds says of it.

    With G the inverse of the whole kernel, the error in a fold B is the inverse of G[B, B] times (G answers)[B].
    """
    inverse = _inverse(columns)
    errors, found = inverse @ answers, np.empty_like(answers)
    for fold in range(_FOLDS):
        block = np.flatnonzero(folds == fold)
        found[block] = answers[block] - np.linalg.solve(inverse[np.ix_(block, block)], errors[block])
    return found


def _areas(scores: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve of every class: the Mann-Whitney statistic as a share of all pairs."""
    ranks = importlib.import_module("scipy.stats").rankdata(scores, axis=0)
    count = answers.sum(0)
    return np.asarray(((ranks * answers).sum(0) - count * (count + 1) / 2) / (count * (len(answers) - count)))


def _answered(fitted: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return answers that concepts decide, but for a share of them that goes to other pictures."""
    order = np.argsort(-(fitted + 1e-9 * rng.standard_normal(len(fitted))))
    answered, others = order[:count], order[count:]
    moved = min(round(_ELSEWHERE * count), len(others))
    drawn = np.zeros(len(fitted))
    drawn[rng.permutation(answered)[moved:]] = 1
    drawn[rng.permutation(others)[:moved]] = 1
    return drawn


def _looked_at(
    seen: np.ndarray, levels: Sequence[int], errors: Sequence[Errors] | None, rng: np.random.Generator
) -> np.ndarray:
    """Return what the eye would see if the pictures showed what it has seen; "none" where its errors leave a rest."""
    looked = seen.copy()
    for group, error in enumerate(errors or ()):
        values = error.places - sum(levels[:group])
        for column, value in enumerate(values.tolist()):
            rows = np.flatnonzero(seen[:, group] == value)
            shares = np.append(error.matrix[:, column], 1 - error.matrix[:, column].sum()).clip(0)
            looked[rows, group] = rng.choice(np.append(values, -1), len(rows), p=shares / shares.sum())
    return looked
