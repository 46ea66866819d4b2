"""What showing a value does, averaged over a target's own object there and not there."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diffexplain_fast.stats.adjusting import other_columns
from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.averaging import averaged
from diffexplain_fast.stats.cells import with_average, without_pairs
from diffexplain_fast.stats.coding import columns
from diffexplain_fast.stats.distributions import t_quantile
from diffexplain_fast.stats.effects import Effects, against_median, joined
from diffexplain_fast.stats.first_stage import among, first_stage
from diffexplain_fast.stats.instruments import expecting, second_stage, showing
from diffexplain_fast.stats.regression import Fit
from diffexplain_fast.stats.words import Words


class Strata(NamedTuple):
    """The pictures with a target's own object, and those without it; a picture may be in neither.

    Attributes:
        own: bool [pictures].
        others: bool [pictures].
        column: of the own object among those of the design.
    """

    own: np.ndarray
    others: np.ndarray
    column: int


def strata_of(asked: Asked, seen: np.ndarray, own: Sequence[int | None], groups: Sequence[int]) -> list[Strata | None]:
    """Return the pictures with and without the own object of every target: asked for, and seen where the eye tells.

    Args:
        asked: what the captions ask for.
        seen: what the eye saw, [pictures, concepts].
        own: place of every target's own object among the concepts, None where there is none.
        groups: that are told by what is shown.
    """
    found: list[Strata | None] = []
    for place in own:
        if place is None:
            found.append(None)
            continue
        mine, column = asked.named[:, place], int(asked.columns[place])
        there = seen[:, place] == 1 if column in groups else mine
        found.append(Strata(mine & there, ~mine & ~there, column))
    return found


def averaged_showing(
    asked: Asked,
    words: Words,
    shown: Sequence[np.ndarray | None],
    outcomes: np.ndarray,
    strata: Sequence[Strata | None],
) -> tuple[Fit, Effects, Effects]:
    """Return what showing does, in all pictures and averaged over the own object there and not there.

    The average is that of ``estimate`` for asking. Pictures as they come have the own object in one of as many as there
    are objects, so that what a value does beside the own object would count for little in them.

    Args:
        asked: what the captions ask for.
        words: see ``showing``.
        shown: see ``showing``.
        outcomes: of the targets, float [pictures, targets].
        strata: of every target; None where it has no own object among the concepts.

    Returns:
        The regression in all pictures, the effects that ``against_median`` makes of it, and the averaged effects. They
        are the same in the object's own group, and where too few pictures have the own object, or are without it.
    """
    stage = first_stage(words, shown, outcomes, asked.weights)
    fit = second_stage(words, shown, outcomes, stage, asked.weights)
    effects = pooled = against_median(fit)
    for parts, targets in _alike(strata):
        if min(parts.own.sum(), parts.others.sum()) < asked.least(parts.column):
            continue
        here = among(words, shown, outcomes[:, targets], stage, parts.own, asked.weights)
        # The own object is there in all pictures of one part and in none of the other: nothing is left to be shown.
        seen, expected, more = (
            [None if column == parts.column else one for column, one in enumerate(of)]
            for of in (shown, here.expected, here.more)
        )
        mine = _part(asked, words, expected, outcomes[:, targets] - here.added, parts.own)
        small = _one_by_one(*mine, [one[parts.own] for one in more if one is not None])
        rest, said, there, left = _part(asked, words, seen, outcomes[:, targets], parts.others)
        large = against_median(showing(said, there, without_pairs(rest, left), rest.weights))
        cells = pooled.groups != parts.column
        for target, found in zip(targets, averaged(small, large, cells), strict=True):
            effects = with_average(effects, target, cells & np.isfinite(found.error), found)
    return fit, pooled, effects


def _alike(strata: Sequence[Strata | None]) -> list[tuple[Strata, list[int]]]:
    """Return strata that differ, each with the targets that have them."""
    found: dict[tuple[bytes, bytes, int], tuple[Strata, list[int]]] = {}
    for target, parts in enumerate(strata):
        if parts is not None:
            key = (parts.own.tobytes(), parts.others.tobytes(), parts.column)
            found.setdefault(key, (parts, []))[1].append(target)
    return list(found.values())


def _part(
    asked: Asked, words: Words, shown: Sequence[np.ndarray | None], outcomes: np.ndarray, rows: np.ndarray
) -> tuple[Asked, Words, list[np.ndarray | None], np.ndarray]:
    there = [None if one is None else one[rows] for one in shown]
    return asked.part(rows), words.part(rows), there, outcomes[rows]


def _one_by_one(
    asked: Asked,
    words: Words,
    expected: Sequence[np.ndarray | None],
    outcomes: np.ndarray,
    more: Sequence[np.ndarray],
) -> Effects:
    """Return the effects of showing in few pictures: of each column on its own, without what else moves the outcomes.

    What words let expect is known from all pictures, as far as these few do not differ, and so is, as a first guess,
    what showing more adds to outcomes. It may add something else in these few. Pictures of the same word tell that;
    between words, more is shown where the own object changes how well they are obeyed, which goes along with what they
    do.
    """
    each = [words.column(column) for column in range(len(asked.levels))]
    own = [columns(one.asked, one.levels) for one in each]
    others = other_columns(asked.design, asked.levels, outcomes, asked.weights, more, own)
    return joined(
        [
            against_median(expecting(said, [one], outcomes - other, asked.weights))
            for said, one, other in zip(each, expected, others, strict=True)
        ]
    )


def moved_interval(
    effects: Effects, pooled: Effects, low: np.ndarray, high: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return intervals of averaged effects: Student's, each side wider by as much as that of the pooled effect is.

    Args:
        effects: averaged over strata; where they are the pooled ones, the interval is that of these.
        pooled: in all pictures.
        low: lower end of an honest interval of the pooled effects, [cells, outcomes]; minus infinity if unbounded.
        high: upper end.
        level: probability that an interval misses, in (0, 1).
    """
    usual = np.maximum(t_quantile(1 - level / 2, pooled.freedom) * pooled.error, 1e-300)
    below, above = (
        np.where(np.isnan(side / usual), np.inf, np.maximum(side / usual, 1.0))  # unknown is not narrow
        for side in (pooled.estimate - low, high - pooled.estimate)
    )
    half = t_quantile(1 - level / 2, effects.freedom) * effects.error
    same = (effects.estimate == pooled.estimate) & (effects.error == pooled.error)
    return (
        np.where(same, low, effects.estimate - below * half),
        np.where(same, high, effects.estimate + above * half),
    )
