"""What showing a value does, where the generator draws a word in some share of the pictures only."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from diffexplain_fast.evidence.calibration import Errors
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.discovery.obedience import obedience
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.methods.discovery.trial import Measured
from diffexplain_fast.methods.discovery.wording import instruments_of
from diffexplain_fast.stats.cells import Estimated, Judged, Rule, judge
from diffexplain_fast.stats.effects import against_median
from diffexplain_fast.stats.exclusion import exclusion
from diffexplain_fast.stats.instruments import Words, anderson_rubin, corrected, showing
from diffexplain_fast.stats.multiplicity import benjamini_hochberg

_OBEYED = 0.95
"""Share of obeyed pictures from which asking for a value is as good as showing it, and has the smaller error."""


def disobeyed_groups(plan: Plan, data: Measured, errors: Sequence[Errors] | None) -> list[int]:
    """Return the groups with a disobeyed value whose eye can be corrected: it sees all values and tells them apart.

    Args:
        plan: the captions.
        data: what was said of the pictures, and what the eye saw.
        errors: of the eye in every group; None where they are not known.
    """
    if errors is None or data.seen is None:
        return []
    named = obedience(plan.asked.named, data.seen, errors)
    found = []
    for group, error in enumerate(errors):
        shares = [named[place].share for place in error.places]
        if _seen_whole(plan, data, errors, group) and any(share is not None and share < _OBEYED for share in shares):
            found.append(group)
    return found


def with_showing(
    plan: Plan,
    data: Measured,
    errors: Sequence[Errors] | None,
    estimated: Estimated,
    asking: Judged,
    rule: Rule,
    concepts: Concepts,
) -> Judged:
    """Return the cells with effects of showing in place of effects of asking, in the groups that need it.

    Words are instruments of what the pictures show; what the eye saw is corrected for its errors first. What asking
    has found stays found: a word with an effect is a word with an effect, however seldom it is obeyed.

    Args:
        plan: the captions.
        data: what was said of the pictures.
        errors: of the eye.
        estimated: effects of asking, of all cells.
        asking: the cells by asking.
        rule: of the tests.
        concepts: what was asked for; where a value has several words, they are instruments of their own, and it is
            tested whether they agree. The effect of words that disagree is the weighted median of theirs.

    Returns:
        The cells; an interval may be unbounded, where words hardly move what is shown.
    """
    said = instruments_of(plan.asked, plan.words, concepts)
    many = [] if said is None else said.values
    disobeyed = disobeyed_groups(plan, data, errors)
    several = [group for group, values in enumerate(many) if len(values) > len({*values})]
    groups = sorted({*disobeyed, *(group for group in several if _seen_whole(plan, data, errors, group))})
    if not groups or errors is None or data.seen is None:
        return asking
    asked, shown = plan.asked, _shown(data.seen, errors, groups, len(plan.asked.levels))
    words = Words.one_each(asked.design, asked.levels) if said is None else said
    fit = showing(words, shown, data.values, asked.weights)
    effects = against_median(fit)
    low, high = anderson_rubin(fit, effects, rule.level)
    cells = np.isin(effects.groups, groups)[:, None]
    agreement = exclusion(fit, effects, words, asked.weights)
    tested = np.where(cells, agreement.p, np.nan)
    disagree = benjamini_hochberg(tested) <= rule.level
    effects = replace(
        effects,
        estimate=np.where(disagree, agreement.median, effects.estimate),
        error=np.where(disagree, agreement.error, effects.error),
    )
    old = estimated.effects
    joined = replace(
        old,
        estimate=np.where(cells, effects.estimate, old.estimate),
        error=np.where(cells, effects.error, old.error),
        freedom=np.where(cells, effects.freedom, old.freedom),
    )
    tests = rule._replace(control="any" if rule.control == "family" else rule.control)
    judged = judge(asked, replace(estimated, effects=joined), tests, rule.looks[-1].level, asking.found)
    places = asked.places
    here = np.broadcast_to(cells, tested.shape)[places] & ~disagree[places]
    return replace(
        judged,
        low=np.where(here, low[places], judged.low),
        high=np.where(here, high[places], judged.high),
        words_p=tested[places],
        disagree=disagree[places],
    )


def _shown(seen: np.ndarray, errors: Sequence[Errors], groups: Sequence[int], columns: int) -> list[np.ndarray | None]:
    """Return what the pictures show in some groups, the eye's errors undone; None for the other columns."""
    shown: list[np.ndarray | None] = [None] * columns
    for group in groups:
        shown[group] = corrected(seen[:, errors[group].places], errors[group].matrix)
    return shown


def _seen_whole(plan: Plan, data: Measured, errors: Sequence[Errors] | None, group: int) -> bool:
    """Return whether the eye sees all values of a group and tells them apart."""
    if errors is None or data.seen is None or group >= len(errors):
        return False
    error = errors[group]
    return error.whole(plan.asked.levels[group]) and np.allclose(error.matrix.sum(0), 1, atol=1e-6)
