"""What showing a value does, where the generator draws a word in some share of the pictures only."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from diffexplain_fast.evidence.calibration import Errors
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.discovery.disobeyed import shown_in, told_groups
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.methods.discovery.trial import Measured
from diffexplain_fast.methods.discovery.wording import instruments_of
from diffexplain_fast.stats.cells import Estimated, Judged, Rule, judge
from diffexplain_fast.stats.effects import Effects
from diffexplain_fast.stats.exclusion import exclusion
from diffexplain_fast.stats.instruments import anderson_rubin
from diffexplain_fast.stats.multiplicity import benjamini_hochberg
from diffexplain_fast.stats.strata import averaged_showing, moved_interval, strata_of
from diffexplain_fast.stats.words import Words


class Shown(NamedTuple):
    """Effects of showing in the groups that need it, of asking in the others, [cells, targets].

    Attributes:
        effects: of all cells.
        low: lower end of the interval in the groups that need it; minus infinity where words hardly move what is shown.
        high: upper end.
        p: of the test whether the words of a value agree; NaN where it is not tested.
        disagree: whether they do not, adjusted over all tests.
        here: whether the interval of a cell is that of showing.
    """

    effects: Effects
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    disagree: np.ndarray
    here: np.ndarray


def shown_effects(
    plan: Plan,
    data: Measured,
    errors: Sequence[Errors] | None,
    asking: Effects,
    own: Sequence[int | None],
    level: float,
    concepts: Concepts,
    families: Sequence[Sequence[int]] | None = None,
) -> Shown | None:
    """Return effects of showing in place of effects of asking, in the groups that need it; None where none does.

    Words are instruments of what the pictures show; what the eye saw is corrected for its errors first. As those of
    asking, the effects are averaged over the own object there and not there.

    Args:
        plan: the captions.
        data: what was said of the pictures.
        errors: of the eye.
        asking: effects of asking, of all cells.
        own: place of every target's own object among the concepts, None where there is none.
        level: error of the intervals.
        concepts: what was asked for; where a value has several words, they are instruments of their own, and it is
            tested whether they agree.
        families: targets of every classifier, whose tests are adjusted together; None for all targets of one.
    """
    said = instruments_of(plan.asked, plan.words, concepts)
    groups = told_groups(plan, data, errors, concepts)
    if not groups or errors is None or data.seen is None:
        return None
    asked, shown = plan.asked, shown_in(data.seen, errors, groups, len(plan.asked.levels))
    words = Words.one_each(asked.design, asked.levels) if said is None else said
    strata = strata_of(asked, data.seen, own, groups)
    fit, pooled, effects = averaged_showing(asked, words, shown, data.values, strata)
    low, high = moved_interval(effects, pooled, *anderson_rubin(fit, pooled, level), level)
    cells = np.isin(effects.groups, groups)[:, None]
    found = [exclusion(fit.of(some), pooled.of(some), words, asked.weights) for some in families or [range(len(own))]]
    each = [np.where(cells, one.p, np.nan) for one in found]
    tested, disagree = np.concatenate(each, 1), np.concatenate([benjamini_hochberg(p) <= level for p in each], 1)
    estimate = np.where(disagree, np.concatenate([one.median for one in found], 1), effects.estimate)
    error = np.where(disagree, np.concatenate([one.error for one in found], 1), effects.error)
    freedom = np.where(disagree, pooled.freedom, effects.freedom)
    pairs = ((estimate, asking.estimate), (error, asking.error), (freedom, asking.freedom))
    estimate, error, freedom = (np.where(cells, new, old) for new, old in pairs)
    fewest = np.where(cells, np.where(disagree, np.inf, effects.least_freedom), asking.least_freedom)
    joined = replace(asking, estimate=estimate, error=error, freedom=freedom, fewest=fewest)
    return Shown(joined, low, high, tested, disagree, cells & ~disagree)


def with_showing(
    plan: Plan,
    data: Measured,
    errors: Sequence[Errors] | None,
    estimated: Estimated,
    asking: Judged,
    rule: Rule,
    concepts: Concepts,
    own: Sequence[int | None],
) -> Judged:
    """Return the cells with effects of showing in place of effects of asking, in the groups that need it.

    What asking has found stays found: a word with an effect is a word with an effect, however seldom it is obeyed. The
    effect of words that disagree is the weighted median of theirs, in pictures as they come.

    Args:
        plan: see ``shown_effects``.
        data: see there.
        errors: see there.
        estimated: effects of asking, of all cells.
        asking: the cells by asking.
        rule: of the tests.
        concepts: see ``shown_effects``.
        own: see there.

    Returns:
        The cells; an interval may be unbounded, where words hardly move what is shown.
    """
    found = shown_effects(plan, data, errors, estimated.effects, own, rule.level, concepts)
    if found is None:
        return asking
    asked, places = plan.asked, plan.asked.places
    judged = judge(asked, replace(estimated, effects=found.effects, fit=None), rule, rule.shown, asking.found)
    here = found.here[places]
    return replace(
        judged,
        low=np.where(here, found.low[places], judged.low),
        high=np.where(here, found.high[places], judged.high),
        words_p=found.p[places],
        disagree=found.disagree[places],
    )
