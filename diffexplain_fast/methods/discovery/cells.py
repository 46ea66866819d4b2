"""Effects of concepts on targets: in all pictures, or in a part of them, such as those with a target's own object."""

from dataclasses import dataclass, replace

import numpy as np

from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.stats.effects import Effects, against_median, interval
from diffexplain_fast.stats.regression import Fit, least_squares


@dataclass(frozen=True)
class Split:
    """Effects of all cells on one target in a part of the pictures, float [cells]; NaN where there is none.

    Attributes:
        effect: on the value.
        low: lower end of its interval.
        high: upper end.
        share: of pictures that are answered with the target, where the cell is asked for.
        median_share: the median of ``share`` over the values of the cell's group.
        points_low: lower end of the interval of ``share - median_share``.
        points_high: upper end.
    """

    effect: np.ndarray
    low: np.ndarray
    high: np.ndarray
    share: np.ndarray
    median_share: np.ndarray
    points_low: np.ndarray
    points_high: np.ndarray


def fitted(plan: Plan, outcomes: np.ndarray) -> tuple[Fit, Effects]:
    """Return the regression of outcomes on the concepts, and the effects of all cells.

    A free word is either there or not: its effect is against its absence, which is twice that against the median of
    the two.

    Args:
        plan: the captions.
        outcomes: float [pictures, outcomes].
    """
    fit = least_squares(plan.design, plan.levels, outcomes)
    effects = against_median(fit)
    word = (effects.groups >= plan.groups)[:, None]
    factor = np.where(word, 2.0, 1.0)
    doubled = replace(effects, estimate=effects.estimate * factor, error=effects.error * factor)
    return fit, replace(doubled, medians=np.where(word, effects.means - doubled.estimate, effects.medians))


def split(plan: Plan, rows: np.ndarray, values: np.ndarray, hits: np.ndarray, level: float) -> Split | None:
    """Return the effects on one target in a part of the pictures.

    Args:
        plan: the captions of all pictures.
        rows: the part, bool [pictures].
        values: of the target, [pictures].
        hits: whether a picture is answered with the target, [pictures].
        level: error of the intervals.

    Returns:
        The effects; None where there are fewer pictures than twice the columns of the regression.
    """
    part = replace(plan, design=plan.design[rows])
    if len(part.design) < 2 * (1 + sum(count - 1 for count in plan.levels)):
        return None
    outcomes = np.stack([values[rows], hits[rows].astype(np.float64)], 1)
    return parts_of(fitted(part, outcomes)[1], level)[0]


def parts_of(effects: Effects, level: float) -> list[Split]:
    """Return the effects on every target.

    Args:
        effects: on the values of all targets, then on the answers with all targets.
        level: error of the intervals.
    """
    low, high = interval(effects.estimate, effects.error, effects.freedom, level)
    half = effects.estimate.shape[1] // 2
    share, median = effects.means.clip(0, 1), effects.medians.clip(0, 1)
    return [
        Split(
            effect=effects.estimate[:, target],
            low=low[:, target],
            high=high[:, target],
            share=share[:, half + target],
            median_share=median[:, half + target],
            points_low=low[:, half + target],
            points_high=high[:, half + target],
        )
        for target in range(half)
    ]
