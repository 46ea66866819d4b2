"""Whether words act only through what they name: synonyms as separate instruments that must agree."""

from dataclasses import dataclass

import numpy as np

from diffexplain_fast.stats.coding import cells_of, columns, uniform_over_others
from diffexplain_fast.stats.distributions import chi2_above
from diffexplain_fast.stats.effects import Effects
from diffexplain_fast.stats.regression import Fit
from diffexplain_fast.stats.words import Words

LEAST_SYNONYMS = 4
_DRAWS = 200
_LEAST_MOVED = 1e-6
"""Share of a synonym's pictures that show its value, beyond those of other words, below which it moves nothing."""


@dataclass(frozen=True)
class Exclusion:
    """Whether the synonyms of a value agree on its effect, for every cell and outcome.

    Attributes:
        q: float [cells, outcomes]: Hansen's statistic; NaN where a value has fewer than 4 synonyms, or is never shown
            because of them.
        p: float [cells, outcomes]: probability of a larger one if every synonym acts only through the value.
        median, error: float [cells, outcomes]: weighted median of the synonyms' effects and its standard error, which
            hold where synonyms with half of the weight act only through the value.
    """

    q: np.ndarray
    p: np.ndarray
    median: np.ndarray
    error: np.ndarray


def exclusion(fit: Fit, effects: Effects, words: Words, weights: np.ndarray | None = None, seed: int = 0) -> Exclusion:
    """Test whether words act only through what they name, and return effects that one bad synonym does not move.

    The residuals of the two-stage regression are averaged over the captions of every synonym. Through the value only,
    the averages of J synonyms differ by chance: Q, their squared differences in units of their covariance, is
    chi-squared with J - 1 degrees of freedom. The covariance is HC3 on deviations from each word's average, so that a
    side effect does not hide behind its own spread, and it counts that the effect was fitted to the same pictures. A
    synonym's own effect is the joint effect plus its average residual over the share in which it moves what is shown.

    Args:
        fit: from ``showing``.
        effects: made of it by ``against_median``.
        words: the captions, as given to ``showing``.
        weights: of the pictures, as given to ``showing``: an average over the captions of a synonym counts them too.
        seed: of the draws that the error of the weighted median comes from.

    Source: L. P. Hansen, "Large sample properties of generalized method of moments estimators", Econometrica 50
    (1982); J. D. Sargan, Econometrica 26 (1958); weighted median, J. Bowden et al., "Consistent estimation in Mendelian
    randomization with some invalid instruments using a weighted median estimator", Genetic Epidemiology 40 (2016).
    """
    z = columns(words.asked, words.levels)
    root = np.ones(len(z)) if weights is None else np.sqrt(weights)
    solve = np.linalg.pinv(z * root[:, None], rcond=1e-9) * root
    leverage = np.einsum("ij,ji->i", z, solve)
    asked = z[:, 1 : 1 + sum(words.levels)].sum(0) > 0
    averages = solve.T @ uniform_over_others(words.levels, asked)  # [pictures, words]
    left = fit.residuals * np.maximum(1 - fit.leverage, 1e-6)[:, None]
    errors = (left - z @ (solve @ left)) / np.maximum(1 - leverage, 1e-6)[:, None]
    word_groups, cell, random = cells_of(words.levels)[0], words.of_cell(), np.random.default_rng(seed)
    same = effects.groups[:, None] == effects.groups[None, :]
    found = Exclusion(*(np.full_like(effects.estimate, np.nan) for _ in range(4)))
    for value in range(len(effects.groups)):
        own = np.flatnonzero((cell == value) & asked)
        others = np.flatnonzero((word_groups == effects.groups[value]) & (cell != value) & asked)
        if len(own) < LEAST_SYNONYMS or not len(others):
            continue
        against = averages[:, own] - averages[:, others].mean(1, keepdims=True)  # [pictures, synonyms]
        moved = against.T @ fit.x[:, 1 + value]  # [synonyms]
        if (np.abs(moved) < _LEAST_MOVED).all():
            continue
        moved = np.where(np.abs(moved) < _LEAST_MOVED, _LEAST_MOVED, moved)  # then the effect has hardly any weight
        residual = against.T @ left
        rows = against - fit.solve.T @ (fit.x.T @ against)  # residual = rows.T @ outcomes
        covariance = np.einsum("ij,io,ik->ojk", rows, errors**2, rows, optimize=True)
        spread = np.linalg.svd(np.eye(len(own)) - 1 / len(own))[0][:, : len(own) - 1]  # differences of synonyms
        inside = spread.T @ covariance @ spread
        differences = residual.T @ spread  # [outcomes, synonyms - 1]
        found.q[value] = np.einsum("oj,ojk,ok->o", differences, np.linalg.pinv(inside, hermitian=True), differences)
        found.p[value] = chi2_above(found.q[value], len(own) - 1)
        joint = fit.rows[:, [value]] - fit.rows @ np.where(
            same[:, [value]], effects.middle, 0.0
        )  # [pictures, outcomes]
        alone = joint[:, :, None] + (rows / moved)[:, None, :]  # each synonym's effect is alone.T @ outcomes
        covariance = np.einsum("ioj,io,iok->ojk", alone, errors**2, alone, optimize=True)
        estimates = effects.estimate[value][:, None] + residual.T / moved
        weights = 1 / np.maximum(covariance.diagonal(axis1=1, axis2=2), 1e-300)  # [outcomes, synonyms]
        found.median[value] = weighted_median(estimates, weights)
        found.error[value] = weighted_median(estimates + _drawn(covariance, random), weights).std(0, ddof=1)
    return found


def _drawn(covariance: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return normal draws [draws, outcomes, synonyms] with covariances [outcomes, synonyms, synonyms]."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))[:, None, :]
    return np.einsum("ojk,dok->doj", root, random.standard_normal((_DRAWS, *covariance.shape[:2])))


def weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted median over the last axis, interpolated where the weight passes one half.

    Args:
        values, weights: float [..., n], of shapes that broadcast; weights 0 or above, not all 0.
    """
    values, weights = np.broadcast_arrays(values, weights)
    order = values.argsort(-1)
    values, weights = np.take_along_axis(values, order, -1), np.take_along_axis(weights, order, -1)
    places = (weights.cumsum(-1) - weights / 2) / weights.sum(-1, keepdims=True)
    above = np.clip((places < 0.5).sum(-1, keepdims=True), 1, values.shape[-1] - 1)
    p0, p1 = np.take_along_axis(places, above - 1, -1), np.take_along_axis(places, above, -1)
    v0, v1 = np.take_along_axis(values, above - 1, -1), np.take_along_axis(values, above, -1)
    share = np.clip((0.5 - p0) / np.maximum(p1 - p0, 1e-300), 0, 1)
    return (v0 + share * (v1 - v0))[..., 0]
