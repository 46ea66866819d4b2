"""Words as instruments: what showing a value does, where a generator obeys its words in some share of the pictures."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.stats.coding import columns, indicators, uniform_over_others
from diffexplain_fast.stats.distributions import t_quantile
from diffexplain_fast.stats.effects import Effects
from diffexplain_fast.stats.first_stage import Stage, first_stage
from diffexplain_fast.stats.regression import Fit
from diffexplain_fast.stats.words import Words

LEAST_SINGULAR = 0.3
"""Singular value of an eye's confusion matrix below which the eye is not corrected, and asking takes its place."""


def weakest_direction(confusion: np.ndarray) -> float:
    """Return the smallest singular value of an eye's confusion matrix: below .3 the eye cannot be corrected.

    Args:
        confusion: float [values, values]: probability that the eye sees the value of the row where the picture truly
            shows the value of the column, counted on generated pictures; columns add up to one.

    Raises:
        ValueError: another shape, or columns that do not add up to one.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    if confusion.ndim != 2 or len(set(confusion.shape)) != 1 or not np.allclose(confusion.sum(0), 1, atol=1e-6):
        raise wrong_value("confusion", "a square matrix with columns that add up to one", confusion)
    return float(np.linalg.svd(confusion, compute_uv=False)[-1])


def corrected(seen: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """Return what the pictures show, without bias: the inverse of the confusion matrix times what the eye saw.

    Single pictures get numbers below 0 and above 1; their mean over pictures that show a value is right.

    Args:
        seen: float [pictures, values]: 1 for the value that the eye saw, or the eye's probabilities where the
            confusion matrix was averaged over such probabilities too.
        confusion: float [values, values], see ``weakest_direction``.

    Returns:
        float [pictures, values].

    Raises:
        ValueError: a singular value of the confusion matrix below .3.
    """
    weakest = weakest_direction(confusion)
    if weakest < LEAST_SINGULAR:
        wanted = f"singular values of at least {LEAST_SINGULAR}"
        raise wrong_value("confusion", wanted, f"{weakest:.2f}; report asking for this group")
    return np.asarray(seen, dtype=np.float64) @ np.linalg.inv(np.asarray(confusion, dtype=np.float64)).T


def showing(
    words: Words, shown: Sequence[np.ndarray | None], outcomes: np.ndarray, weights: np.ndarray | None = None
) -> Fit:
    """Return what showing the values does, all groups at once, with words as instruments.

    Two stages: what the captions let expect (see ``first_stage``), and the regression of outcomes on that.

    Args:
        words: the captions.
        shown: for every group float [pictures, values], from ``corrected``; None for a group whose eye is too poor:
            what is asked takes its place.
        outcomes: float [pictures, outcomes], finite.
        weights: see ``least_squares``.

    Returns:
        A fit for ``against_median`` and ``anderson_rubin``; its ``x`` holds what is shown, not what is expected.

    Raises:
        ValueError: arguments of the wrong shape, or not finite.

    Source: J. D. Angrist, G. W. Imbens and D. B. Rubin, "Identification of causal effects using instrumental
    variables", JASA 91 (1996).
    """
    return second_stage(words, shown, outcomes, first_stage(words, shown, outcomes, weights), weights)


def second_stage(
    words: Words,
    shown: Sequence[np.ndarray | None],
    outcomes: np.ndarray,
    stage: Stage,
    weights: np.ndarray | None = None,
) -> Fit:
    """Return what showing the values does; see ``showing``.

    Args:
        words: the captions.
        shown: see ``showing``.
        outcomes: float [pictures, outcomes].
        stage: from ``first_stage``, of the same pictures.
        weights: see ``least_squares``.
    """
    fit, x = expecting(words, stage.expected, outcomes - stage.added, weights), with_shown(words, shown)
    left = outcomes - x @ (fit.solve @ (outcomes - stage.added))
    return replace(fit, x=x, residuals=fit.hc3(left))


def expecting(
    words: Words, expected: Sequence[np.ndarray | None], outcomes: np.ndarray, weights: np.ndarray | None = None
) -> Fit:
    """Return the regression of outcomes on what the captions let expect.

    Args:
        words: the captions.
        expected: for every group float [pictures, values], see ``Stage``; None for what is asked.
        outcomes: float [pictures, outcomes].
        weights: see ``least_squares``.
    """
    levels, design = words.cells, words.design
    x = with_shown(words, expected)
    root = np.ones((len(x), 1)) if weights is None else np.sqrt(weights)[:, None]
    solve = np.linalg.pinv(x * root, rcond=1e-9) * root[:, 0]
    leverage = (x * solve.T).sum(1)
    named = indicators(design, levels)
    pictures = named.sum(0).astype(np.int64)
    rows = solve.T @ uniform_over_others(levels, pictures > 0, None if weights is None else weights @ named)
    means = np.where((pictures > 0)[:, None], rows.T @ outcomes, np.nan)
    residuals = (outcomes - x @ (solve @ outcomes)) / np.maximum(1 - leverage, 1e-6)[:, None]
    return Fit(levels, means, rows, residuals, leverage, x, solve, pictures)


def with_shown(words: Words, shown: Sequence[np.ndarray | None]) -> np.ndarray:
    """Return the columns of a regression, see ``columns``, with what is shown in place of what is asked.

    Args:
        words: the captions.
        shown: for every group float [pictures, values]; None for a group that is told by what is asked.
    """
    levels, start = words.cells, 1
    x = columns(words.design, levels)
    for group, (values, one) in enumerate(zip(levels, shown, strict=True)):
        if one is not None:
            x[:, start : start + values] = one
            x[:, 1 + sum(levels) + group] = 0
        start += values
    return x


def anderson_rubin(fit: Fit, effects: Effects, level: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Return intervals of effects that stay honest where the words hardly move what is shown.

    An effect e0 is inside if the moment of its instrument, the combination of words that moves this effect only, is
    not further from 0 than Student's quantile times its HC3 error, with the residuals of the regression that is held
    at e0. This is a quadratic inequality in e0. The estimate counts as the effect whose moment is 0, which it nearly
    is, because what is expected is shrunk. Where the set is not an interval the words do not move what is shown, and
    the value is *not drawable*; that is not *no effect*.

    Args:
        fit: from ``showing``.
        effects: made of it by ``against_median``.
        level: probability that an interval misses, in (0, 1).

    Returns:
        Lower and upper end, float [cells, outcomes]: minus and plus infinity where the interval is unbounded.

    Source: T. W. Anderson and H. Rubin, "Estimation of the parameters of a single equation in a complete system of
    stochastic equations", Annals of Mathematical Statistics 20 (1949); E. C. Fieller, "Some problems in interval
    estimation", JRSS B 16 (1954).
    """
    same = effects.groups[:, None] == effects.groups[None, :]
    uniform = uniform_over_others(fit.levels, fit.pictures > 0)
    low, high = np.full_like(effects.estimate, -np.inf), np.full_like(effects.estimate, np.inf)
    quantile = t_quantile(1 - level / 2, effects.freedom) ** 2
    for outcome in range(effects.estimate.shape[1]):
        difference = np.eye(len(same)) - np.where(same, effects.middle[:, [outcome]], 0.0)
        contrasts = uniform @ difference
        instrument = fit.solve.T @ contrasts  # [pictures, cells]
        moved = fit.x @ (fit.solve @ instrument) / np.maximum((instrument**2).sum(0), 1e-300)
        moved, left = fit.hc3(moved), fit.residuals[:, [outcome]]
        t2, squares = quantile[:, outcome], instrument**2
        first = 1 - t2 * (squares * moved**2).sum(0)
        second, third = t2 * (squares * moved * left).sum(0), t2 * (squares * left**2).sum(0)
        bounded = (first > 0) & np.isfinite(third)
        root = np.sqrt(second[bounded] ** 2 + first[bounded] * third[bounded])
        low[bounded, outcome] = effects.estimate[bounded, outcome] - (second[bounded] + root) / first[bounded]
        high[bounded, outcome] = effects.estimate[bounded, outcome] - (second[bounded] - root) / first[bounded]
    return low, high
