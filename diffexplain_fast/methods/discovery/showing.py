"""What showing a value does, where the generator draws a word in some share of the pictures only."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from diffexplain_fast.evidence.calibration import Errors
from diffexplain_fast.methods.discovery.obedience import obedience
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.methods.discovery.trial import Measured
from diffexplain_fast.stats.cells import Estimated, Judged, Rule, judge
from diffexplain_fast.stats.effects import against_median
from diffexplain_fast.stats.instruments import Words, anderson_rubin, corrected, showing

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
        whole = len(error.places) == plan.asked.levels[group] and np.allclose(error.matrix.sum(0), 1, atol=1e-6)
        shares = [named[place].share for place in error.places]
        if whole and error.believed and any(share is not None and share < _OBEYED for share in shares):
            found.append(group)
    return found


def with_showing(
    plan: Plan,
    data: Measured,
    errors: Sequence[Errors] | None,
    estimated: Estimated,
    asking: Judged,
    rule: Rule,
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

    Returns:
        The cells; an interval may be unbounded, where words hardly move what is shown.
    """
    groups = disobeyed_groups(plan, data, errors)
    if not groups or errors is None or data.seen is None:
        return asking
    asked = plan.asked
    shown: list[np.ndarray | None] = [None] * len(asked.levels)
    for group in groups:
        shown[group] = corrected(data.seen[:, errors[group].places], errors[group].matrix)
    fit = showing(Words.one_each(asked.design, asked.levels), shown, data.values, asked.weights)
    effects = against_median(fit)
    low, high = anderson_rubin(fit, effects, rule.level)
    cells = np.isin(effects.groups, groups)[:, None]
    old = estimated.effects
    joined = replace(
        old,
        estimate=np.where(cells, effects.estimate, old.estimate),
        error=np.where(cells, effects.error, old.error),
        freedom=np.where(cells, effects.freedom, old.freedom),
    )
    tests = rule._replace(control="any" if rule.control == "family" else rule.control)
    judged = judge(asked, replace(estimated, effects=joined), tests, rule.looks[-1].level, asking.found)
    here, places = np.broadcast_to(cells[asked.places], judged.low.shape), asked.places
    return replace(judged, low=np.where(here, low[places], judged.low), high=np.where(here, high[places], judged.high))
