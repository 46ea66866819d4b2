"""Effects of values that were pasted from donors into pictures, with errors clustered by picture and by donor."""

import importlib
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.stats.coding import indicators
from diffexplain_fast.stats.distributions import t_quantile
from diffexplain_fast.stats.effects import Effects, against_median, interval
from diffexplain_fast.stats.intervals import wilson_of_rate
from diffexplain_fast.stats.regression import effective_pictures, least_squares

_NEEDED = 'audits of own pictures need statsmodels: pip install "diffexplain-fast[photographs]"'
_NORMAL = 1e9
"""Degrees of freedom with which Student's distribution is the normal one."""


def check_clustered(models: bool = True) -> None:
    """Refuse to begin where statsmodels, or scipy, which comes with it, is missing.

    Args:
        models: whether regressions with clusters are wanted, for which scipy is not enough.

    Raises:
        ImportError: names the extra.
    """
    try:
        importlib.import_module("statsmodels" if models else "scipy.stats")
    except ImportError as error:
        raise ImportError(_NEEDED) from error


def clustered_effects(values: np.ndarray, donors: np.ndarray) -> Effects:
    """Return every value's effect against the median of its group, from pictures that each got every value.

    Outcomes of one picture share the picture, and outcomes of one donor share the donor, so the errors are clustered
    both ways. Each picture's own mean is taken away first, because only differences between values are estimated. A
    donor's share in a value is measured against the mean of the other values, which holds all of it, and is divided by
    what the mean over few donors hides of it. The error of a value minus the weighted values in the middle of its group
    holds the donors of them all. It is multiplied by how much ``against_median`` adds to the same error without
    clusters, for the choice of the middle, and is never below that one.

    The degrees of freedom are Satterthwaite's, over the donors of each value with the squared weights of the values.
    They are computed for variances as estimated and for donors that vary alike in all values, because a variance of
    few donors may be small by chance; the smaller number counts, and at most the pictures minus one.

    Args:
        values: float [pictures, values, outcomes]: what was said of a picture with a value pasted into it; finite.
        donors: int [pictures, values]: the picture from which the value was taken; it has no other value of the group.

    Raises:
        ImportError: statsmodels is missing; names the extra.
        ValueError: shapes that do not fit, or fewer than two pictures, values, or donors of a value.

    Source: A. C. Cameron, J. B. Gelbach and D. L. Miller, "Robust inference with multiway clustering", Journal of
    Business and Economic Statistics 29 (2011), section 2, with one-way clusters as statsmodels computes them; degrees
    of freedom, R. M. Bell and D. F. McCaffrey, "Bias reduction in standard errors for linear regression with
    multi-stage samples", Survey Methodology 28 (2002).
    """
    if values.ndim != 3 or donors.shape != values.shape[:2] or min(values.shape[:2]) < 2:
        raise wrong_value("values", "[pictures, values, outcomes], at least two of each", list(values.shape))
    few = [len(np.unique(column)) for column in donors.T]
    if min(few) < 2:
        raise wrong_value("donors", "at least two of every value", few)
    check_clustered()
    linear_model = importlib.import_module("statsmodels.regression.linear_model")
    pictures, levels, outcomes = values.shape
    apart = values - values.mean(1, keepdims=True)
    within = apart.reshape(-1, outcomes)
    design = np.tile(np.arange(levels), pictures)[:, None]
    effects = against_median(least_squares(design, (levels,), within))
    columns = indicators(design, (levels,))
    clusters = np.repeat(np.arange(pictures), levels)
    parts = [_of_donors(apart[:, value] * levels / (levels - 1), donors[:, value]) for value in range(levels)]
    added, whole, alike, known = (np.stack(some) for some in zip(*parts, strict=True))
    error, freedom = np.empty_like(effects.error), np.empty_like(effects.freedom)
    for outcome in range(outcomes):
        model, contrast = linear_model.OLS(within[:, outcome], columns), np.eye(levels) - effects.middle[:, outcome]
        both = [model.fit(cov_type="cluster", cov_kwds={"groups": clusters}), model.fit(cov_type="HC3")]
        variance, plain = (np.einsum("vi,ij,vj->v", contrast, one.cov_params(), contrast) for one in both)
        more = effects.error[:, outcome] / np.sqrt(np.maximum(plain, 1e-300))
        error[:, outcome] = np.sqrt(np.maximum(variance + contrast**2 @ added[:, outcome], 0)) * more
        some = [_satterthwaite(contrast**2 * variances, known) for variances in (whole[:, outcome], alike)]
        freedom[:, outcome] = np.clip(np.minimum(*some), 1, pictures - 1)
    return replace(effects, error=np.maximum(error, effects.error), freedom=freedom)


def _of_donors(outcomes: np.ndarray, donors: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Return what the donors of one value do to the variance of the value's mean.

    Sums over donors vary less around their common mean than around 0, by the same factor for donors that vary alike,
    and as if there were fewer of them: with m the pictures of the n donors, p their sum, and A = diag(m) - m m' / p,
    by |m|^2 / tr A^2, and with (tr A^2)^2 / tr A^4 degrees of freedom.

    Args:
        outcomes: float [pictures, outcomes]: of the value, against the other values of the picture.
        donors: int [pictures]; at least two.

    Returns:
        What shared donors add to the variance that pictures without shared donors would have [outcomes], may be below
        0; the variance with it [outcomes]; the variance where each donor has variance 1; and degrees of freedom.
    """
    pictures, outcomes = len(outcomes), outcomes - outcomes.mean(0)
    here = donors[:, None] == np.unique(donors)  # [pictures, donors]
    counts = here.sum(0).astype(np.float64)
    hidden = np.diag(counts) - np.outer(counts, counts) / pictures
    squares, size = float((hidden**2).sum()), float((counts**2).sum())
    whole = size / squares * ((here.T @ outcomes) ** 2).sum(0)
    alone = pictures / (pictures - 1) * (outcomes**2).sum(0)
    freedom = squares**2 / float(((hidden @ hidden) ** 2).sum())
    return (whole - alone) / pictures**2, whole / pictures**2, size / pictures**2, freedom


def _satterthwaite(parts: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Return the degrees of freedom [contrasts] of sums of variances [contrasts, parts], infinite where all are 0."""
    below = (parts**2 / freedom).sum(1)
    return np.where(below > 0, parts.sum(1) ** 2 / np.where(below > 0, below, 1), np.inf)


def cluster_means(changes: Sequence[np.ndarray], clusters: np.ndarray, weights: np.ndarray | None = None) -> Effects:
    """Return mean changes as cells, with errors from the means of clusters, such as crops of one photograph.

    Each cluster counts once, however many pictures it has; the degrees of freedom are the clusters minus one. A
    weighted one counts as its pictures do on average; the error is then that of a weighted mean (HC2), and the degrees
    of freedom are the effective number of clusters minus one.

    Args:
        changes: float [pictures, targets], one for each cell.
        clusters: of every picture a number; pictures of one cluster are not independent.
        weights: float [pictures], how much each counts; None for equally.
    """
    numbers = np.unique(clusters)
    if weights is not None:
        return _weighted_means(changes, [clusters == number for number in numbers], weights)
    means = np.stack([[change[clusters == number].mean(0) for number in numbers] for change in changes])
    estimate, count = means.mean(1), len(numbers)
    error = means.std(1, ddof=1) / np.sqrt(count) if count > 1 else np.full(estimate.shape, np.nan)
    pictures = np.array([len(change) for change in changes])
    freedom = np.full(estimate.shape, max(count - 1, 1), dtype=np.float64)
    zero = np.zeros(estimate.shape)
    return Effects((1,) * len(changes), estimate, error, freedom, estimate, zero, zero, pictures)


def _weighted_means(changes: Sequence[np.ndarray], parts: Sequence[np.ndarray], weights: np.ndarray) -> Effects:
    parts = [part for part in parts if weights[part].any()]  # what has no weight is not there
    means = np.stack([[np.average(change[part], 0, weights[part]) for part in parts] for change in changes])
    each = np.array([weights[part].mean() for part in parts])
    shares = each / each.sum()
    estimate = np.einsum("c,kct->kt", shares, means)
    left = (means - estimate[:, None]) ** 2
    known = np.where(shares < 1, shares**2 / np.where(shares < 1, 1 - shares, 1), np.nan)
    freedom = np.full(estimate.shape, max(effective_pictures(each) - 1, 1.0))
    zero, pictures = np.zeros(estimate.shape), np.array([len(change) for change in changes])
    error = np.sqrt(np.einsum("c,kct->kt", known, left))
    return Effects((1,) * len(changes), estimate, error, freedom, estimate, zero, zero, pictures)


def does_the_same(
    difference: np.ndarray, clusters: np.ndarray, effect: float, level: float, weights: np.ndarray | None = None
) -> bool:
    """Return whether two changes are nearly the same: the interval of what is between them lies within half of one.

    Args:
        difference: float [pictures], the one change minus the other.
        clusters, weights: see ``cluster_means``.
        effect: mean of the one change.
        level: error of the interval.
    """
    one = cluster_means([difference[:, None]], clusters, weights)
    low, high = interval(one.estimate, one.error, one.freedom, level)
    return bool(max(abs(float(low[0, 0])), abs(float(high[0, 0]))) < abs(effect) / 2)


def clustered_rate(hits: np.ndarray, clusters: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a rate for trials in clusters, such as units of one class.

    The trials are worth n / d independent ones, with d the variance of the rate from sums over clusters over that of
    independent trials, at least 1, and Student's quantile with the clusters minus one degrees of freedom in place of
    the normal one. Where all trials have the same outcome nothing tells d, and each cluster is worth one trial.

    Args:
        hits: bool [trials].
        clusters: int [trials], the cluster of each.
        confidence: coverage, in (0, 1).

    Raises:
        ValueError: no trial.

    Source: E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected number of positive
    counts estimated from survey data", Survey Methodology 24 (1998), with Wilson's interval for the exact one.
    """
    if not len(hits):
        raise wrong_value("hits", "at least 1 trial", 0)
    return wilson_of_rate(float(hits.mean()), _worth(hits, clusters, confidence), confidence)


def clustered_change(
    after: np.ndarray,
    before: np.ndarray,
    clusters: np.ndarray,
    confidence: float = 0.95,
    weights: np.ndarray | None = None,
) -> tuple[float, float]:
    """Return the interval of how much a share changes between two states of the same trials, in clusters.

    With n the trials' worth in independent ones (see ``clustered_rate``, here for the changes -1, 0 and 1), and u and d
    the shares of the trials that change up and down, p = (n u + 1) / (n + 2), q = (n d + 1) / (n + 2):

        p - q -+ z sqrt((p + q - (p - q)^2) / (n + 2))

    It has a width where all trials change alike, or none, stays in [-1, 1], and holds the change that was seen.

    Args:
        after: bool [trials], whether each is a success in the second state.
        before: the same in the first state.
        clusters: int [trials], the cluster of each.
        confidence: coverage, in (0, 1).
        weights: float [trials], how much each counts, none below 0; None for equally. Shares are weighted then, and so
            is the trials' worth.

    Raises:
        ValueError: no trial.

    Source: D. G. Bonett and R. M. Price, "Adjusted Wald confidence interval for a difference of binomial proportions
    based on paired data", Journal of Educational and Behavioral Statistics 37 (2012).
    """
    if not len(after):
        raise wrong_value("after", "at least 1 trial", 0)
    change = after.astype(np.float64) - before.astype(np.float64)
    worth = _worth(change, clusters, confidence, weights)
    moves = (float(np.average(moved, weights=weights)) for moved in (change > 0, change < 0))
    up, down = ((worth * moved + 1) / (worth + 2) for moved in moves)
    error = math.sqrt((up + down - (up - down) ** 2) / (worth + 2))
    half, seen = float(t_quantile((1 + confidence) / 2, _NORMAL)) * error, float(np.average(change, weights=weights))
    return max(min(up - down - half, seen), -1.0), min(max(up - down + half, seen), 1.0)


def _worth(outcomes: np.ndarray, clusters: np.ndarray, confidence: float, weights: np.ndarray | None = None) -> float:
    """Return how many independent trials the trials are worth, with Student's quantile in place of the normal one."""
    each = np.ones(len(outcomes)) if weights is None else weights
    numbers = np.unique(clusters[each > 0])
    mean = float(np.average(outcomes, weights=weights))
    spread = float(outcomes.var()) if weights is None else float(np.average((outcomes - mean) ** 2, weights=weights))
    shares = np.array([each[clusters == one].sum() for one in numbers])
    count = len(numbers) if weights is None else effective_pictures(shares)
    if len(numbers) == 1 or spread == 0 or (outcomes == outcomes[0]).all():
        return count
    sums = np.array([(each * (outcomes - mean))[clusters == one].sum() for one in numbers])
    variance = float((sums**2).sum()) * len(numbers) / (len(numbers) - 1) / float(each.sum()) ** 2
    freedom = max(count - 1, 1.0)
    normal, student = (float(t_quantile((1 + confidence) / 2, degrees)) for degrees in (_NORMAL, freedom))
    return spread / max(variance, spread / effective_pictures(each)) * (normal / student) ** 2
