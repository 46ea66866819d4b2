"""Pairs of values that act together: found in the pool, measured and named on fresh pictures with shared latents."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.stats.coding import cells_of, indicators
from diffexplain_fast.stats.distributions import beside_rounding, t_above, t_quantile
from diffexplain_fast.stats.multiplicity import benjamini_hochberg
from diffexplain_fast.stats.regression import Fit

LEAST_JOINT = 6
"""Pictures that must name both values of a pair."""
LEAST_SCENES = 6
"""Fresh scenes below which a pair is not measured."""
_OUTCOMES_AT_ONCE = 16


@dataclass(frozen=True)
class Pairs:
    """What naming two values together adds to what naming each adds alone.

    Attributes:
        first, second: int [pairs]: the two cells, of different groups.
        pictures: int [pairs]: pictures that name both.
        estimate, error, freedom: float [pairs, outcomes].
        adjusted_above, adjusted_below: float [pairs, outcomes]: adjusted p-values of "above delta" and "below -delta".
    """

    first: np.ndarray
    second: np.ndarray
    pictures: np.ndarray
    estimate: np.ndarray
    error: np.ndarray
    freedom: np.ndarray
    adjusted_above: np.ndarray
    adjusted_below: np.ndarray


def all_pairs(fit: Fit, design: np.ndarray, delta: float = 1.0) -> Pairs:
    """Return all pairs of values of two groups, tested against a minimal interaction.

    Each pair adds one column, the captions that name both values, to the regression on single values. The error is
    the larger one of HC3 and of equal variances, because six pictures can lie close together by chance. This is a
    screening: effect and p-value of a report come from fresh pictures, see ``paired``.

    Args:
        fit: from ``least_squares`` without weights.
        design: int [pictures, groups], the captions of the fit.
        delta: minimal interaction, in the unit of the outcomes, 0 or above.

    Returns:
        The pairs that at least 6 pictures name, adjusted over all of them, both directions, by Benjamini and Hochberg.

    Source: R. Frisch and F. V. Waugh, "Partial time regressions as compared with individual trends", Econometrica 1
    (1933), for one added column.
    """
    named = indicators(design, fit.levels)
    groups, counts = cells_of(fit.levels)[0], named.T @ named
    first, second = np.nonzero((groups[:, None] < groups[None, :]) & (counts >= LEAST_JOINT))
    joint = named[:, first] * named[:, second]
    joint = joint - fit.x @ (fit.solve @ joint)
    norms = (joint**2).sum(0)
    own = norms > 1e-6 * len(design)
    first, second, joint, norms = first[own], second[own], joint[:, own], norms[own]
    left = fit.residuals * np.maximum(1 - fit.leverage, 1e-6)[:, None]
    free = len(design) - round(float(fit.leverage.sum())) - 1
    share = joint**2 / norms
    scale = (joint / norms / np.maximum(1 - fit.leverage[:, None] - share, 1e-6)) ** 2  # [pictures, pairs]
    estimate = (joint / norms).T @ left
    plain = np.maximum((left**2).sum(0) - estimate**2 * norms[:, None], 0) / max(free, 1) / norms[:, None]
    robust = np.concatenate([_robust(scale, joint, left, estimate, part) for part in _parts(left.shape[1])], 1)
    error = np.sqrt(np.maximum(robust, plain))
    size = np.abs(np.where(np.isfinite(fit.means), fit.means, 0)).max(0, initial=0)
    statistics = np.stack([estimate - delta, -estimate - delta]) / beside_rounding(error, size)
    adjusted = benjamini_hochberg(t_above(statistics, float(max(free, 1))))
    pictures = counts[first, second].astype(np.int64)
    freedom = np.full_like(estimate, max(free, 1))
    return Pairs(first, second, pictures, estimate, error, freedom, adjusted[0], adjusted[1])


def _parts(outcomes: int) -> list[slice]:
    return [slice(start, start + _OUTCOMES_AT_ONCE) for start in range(0, outcomes, _OUTCOMES_AT_ONCE)]


def _robust(scale: np.ndarray, joint: np.ndarray, left: np.ndarray, estimate: np.ndarray, part: slice) -> np.ndarray:
    """Return HC3 variances [pairs, outcomes of a part]: sum of scale (left - joint estimate)^2, multiplied out."""
    some, effect = left[:, part], estimate[:, part]
    cross = np.einsum("np,no->po", scale * joint, some, optimize=True)
    return scale.T @ some**2 - 2 * effect * cross + effect**2 * (scale * joint**2).sum(0)[:, None]


@dataclass(frozen=True)
class Paired:
    """A pair on fresh scenes, for every outcome.

    Attributes:
        effect, low, high: float [outcomes]: what both together add to the sum of each alone, and Student's interval.
        p: float [outcomes]: of "the absolute effect is above delta".
        alone_first, alone_second, together: float [outcomes]: against the same scene with neither value.
        kind: str [outcomes]: "and", "or", "add".
    """

    effect: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    alone_first: np.ndarray
    alone_second: np.ndarray
    together: np.ndarray
    kind: np.ndarray


def paired(scenes: np.ndarray, delta: float = 1.0, margin: float = 0.5, level: float = 0.05) -> Paired:
    """Return effect and kind of a pair from scenes drawn four times with one latent each.

    With m10, m01 and m11 the outcome with the first, the second and both values, minus the outcome with neither:

        and: m11 - max(m10, m01) > margin and max(m10, m01) < m11 / 2
        or:  min(m10, m01) > margin and m11 - max(m10, m01) < margin
        add: otherwise

    A kind is named only if each of its inequalities is significant at the level, so that a wrong name is as rare as
    one wrong test. The last one holds if one of two differences is small, and its p-value is twice the smaller one.

    Args:
        scenes: float [scenes, 4, outcomes]: neither, first only, second only, both; at least 6 scenes.
        delta: minimal interaction of ``p``.
        margin: minimal effect of the kinds.
        level: of the interval and of the kinds' tests, in (0, 1).

    Raises:
        ValueError: another shape, or fewer scenes.

    Source: R. L. Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24 (1982),
    intersection-union tests.
    """
    scenes = np.asarray(scenes, dtype=np.float64)
    if scenes.ndim != 3 or scenes.shape[1] != 4 or len(scenes) < LEAST_SCENES or not np.isfinite(scenes).all():
        raise wrong_value("scenes", f"finite numbers [at least {LEAST_SCENES}, 4, outcomes]", list(scenes.shape))
    m10, m01, m11 = (scenes[:, k] - scenes[:, 0] for k in (1, 2, 3))
    test = partial(_p, size=np.abs(scenes).max((0, 1)))
    both = np.maximum.reduce(
        [test(m11 - m10, margin), test(m11 - m01, margin), test(m11 - 2 * m10), test(m11 - 2 * m01)]
    )
    no_more = 2 * np.minimum(test(m10 - m11, -margin), test(m01 - m11, -margin))
    either = np.maximum.reduce([test(m10, margin), test(m01, margin), no_more])
    kind = np.where(both <= level, "and", np.where(either <= level, "or", "add"))
    added = m11 - m10 - m01
    effect, error = added.mean(0), added.std(0, ddof=1) / np.sqrt(len(added))
    half = t_quantile(1 - level / 2, float(len(added) - 1)) * error
    p = np.minimum(2 * np.minimum(test(added, delta), test(-added, delta)), 1)
    return Paired(effect, effect - half, effect + half, p, m10.mean(0), m01.mean(0), m11.mean(0), kind)


def _p(values: np.ndarray, above: float = 0.0, *, size: np.ndarray) -> np.ndarray:
    """Return Student's p-value of "the mean over the scenes is above", float [outcomes].

    Args:
        values: float [scenes, outcomes].
        above: see above.
        size: largest number of every outcome, float [outcomes], of which rounding is a part.
    """
    error = beside_rounding(values.std(0, ddof=1) / np.sqrt(len(values)), size)
    return t_above((values.mean(0) - above) / error, float(len(values) - 1))
