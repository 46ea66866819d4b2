"""What showing a value does according to the arrays of a saved trial, and how that differs between two trials."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.distributions import beside_rounding, t_quantile
from diffexplain_fast.stats.effects import Effects
from diffexplain_fast.stats.instruments import anderson_rubin
from diffexplain_fast.stats.strata import averaged_showing, moved_interval, strata_of
from diffexplain_fast.stats.words import Words


class Told(NamedTuple):
    """Effects of all cells with their intervals, float [cells, outcomes]: of showing in some groups, else of asking."""

    effects: Effects
    low: np.ndarray
    high: np.ndarray

    def beside_rounding_of(self, size: np.ndarray) -> "Told":
        """Return the same effects, with errors that are at least what rounding leaves of answers.

        Args:
            size: of the largest answers, float [outcomes], not below 0.
        """
        return self._replace(effects=replace(self.effects, error=beside_rounding(self.effects.error, size)))


def told(
    asked: Asked,
    shown: np.ndarray,
    seen: np.ndarray,
    values: np.ndarray,
    own: Sequence[int | None],
    asking: Effects,
    level: float,
) -> Told:
    """Return what showing does in the groups that are told by what is shown, and what asking does in the others.

    The values are the instruments, whichever of its words names a value.

    Args:
        asked: what the captions ask for.
        shown: what the pictures show, the eye's errors undone, float [pictures, concepts]; NaN in the other groups.
        seen: what the eye saw, float [pictures, concepts].
        values: of the targets, float [pictures, targets].
        own: place of every target's own object among the concepts, None where there is none.
        asking: effects of asking, of all cells.
        level: probability that an interval misses, in (0, 1).
    """
    columns = asked.columns
    groups = [int(group) for group in np.unique(columns) if np.isfinite(shown[:, columns == group]).all()]
    each = [shown[:, columns == group] if group in groups else None for group in range(len(asked.levels))]
    words = Words.one_each(asked.design, asked.levels)
    fit, pooled, effects = averaged_showing(asked, words, each, values, strata_of(asked, seen, own, groups))
    low, high = moved_interval(effects, pooled, *anderson_rubin(fit, pooled, level), level)
    cells = np.isin(asking.groups, groups)[:, None]
    half = t_quantile(1 - level / 2, asking.freedom) * asking.error
    pairs = (
        (effects.estimate, asking.estimate),
        (effects.error, asking.error),
        (effects.freedom, asking.freedom),
        (effects.least_freedom, asking.least_freedom),
        (low, asking.estimate - half),
        (high, asking.estimate + half),
    )
    estimate, error, freedom, fewest, low, high = (np.where(cells, new, old) for new, old in pairs)
    return Told(replace(asking, estimate=estimate, error=error, freedom=freedom, fewest=fewest), low, high)


def minus(one: Told, two: Told) -> Told:
    """Return the differences of the effects of two independent trials.

    Source: of the intervals, G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures",
        Statistics in Medicine 27 (2008), eq. 3.
    """
    first, second = one.effects, two.effects
    estimate = first.estimate - second.estimate
    effects = replace(
        first,
        estimate=estimate,
        error=np.hypot(first.error, second.error),
        freedom=np.minimum(first.freedom, second.freedom),
        pictures=np.minimum(first.pictures, second.pictures),
        fewest=np.minimum(first.least_freedom, second.least_freedom),
    )
    below = np.hypot(first.estimate - one.low, two.high - second.estimate)
    above = np.hypot(one.high - first.estimate, second.estimate - two.low)
    return Told(effects, estimate - below, estimate + above)
