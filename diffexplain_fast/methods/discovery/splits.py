"""Effects of concepts on targets: in all pictures, or in a part of them, such as those with a target's own object."""

from dataclasses import dataclass

import numpy as np

from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.cells import concept_effects
from diffexplain_fast.stats.effects import interval
from diffexplain_fast.stats.shares import exact_shares, with_sure_answers


@dataclass(frozen=True)
class Split:
    """Effects of all concepts on one target in a part of the pictures, float [concepts]; NaN where there is none.

    Attributes:
        effect: on the value.
        low: lower end of its interval.
        high: upper end.
        share: of pictures that are answered with the target, where the concept is asked for.
        median_share: the median of ``share`` over the values of the concept's group.
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


def split(asked: Asked, rows: np.ndarray, values: np.ndarray, hits: np.ndarray, level: float) -> Split | None:
    """Return the effects on one target in a part of the pictures.

    Args:
        asked: what the captions of all pictures ask for.
        rows: the part, bool [pictures].
        values: of the target, [pictures].
        hits: whether a picture is answered with the target, [pictures].
        level: error of the intervals.

    Returns:
        The effects; None where there are fewer pictures than twice the columns of the regression.
    """
    part = asked.part(rows)
    if len(part.design) < max(2 * asked.terms, asked.most_terms + 1):
        return None
    outcomes = np.stack([values[rows], hits[rows].astype(np.float64)], 1)
    return parts_of(part, outcomes, level)[0]


def parts_of(asked: Asked, outcomes: np.ndarray, level: float) -> list[Split]:
    """Return the effects on every target.

    Args:
        asked: what the captions ask for.
        outcomes: values of all targets, then answers with all targets, [pictures, 2 targets].
        level: error of the intervals.
    """
    _, effects = concept_effects(asked, outcomes)
    low, high = interval(effects.estimate, effects.error, effects.freedom, level)
    half = effects.estimate.shape[1] // 2
    answers = range(half, 2 * half)
    ends = with_sure_answers(asked, outcomes[:, half:], effects.of(answers), low[:, half:], high[:, half:], level)
    points = [exact_shares(end) for end in ends]
    share, median = (exact_shares(one.clip(0, 1)) for one in (effects.means, effects.medians))
    kept = asked.places
    return [
        Split(
            effect=effects.estimate[kept, target],
            low=low[kept, target],
            high=high[kept, target],
            share=share[kept, half + target],
            median_share=median[kept, half + target],
            points_low=points[0][kept, target],
            points_high=points[1][kept, target],
        )
        for target in range(half)
    ]
