"""The pictures with a target's own object and those without it, as effects of showing are averaged over them."""

from collections.abc import Mapping, Sequence

import numpy as np

from diffexplain_fast.evidence.calibration import Errors
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.discovery.disobeyed import shown_in
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.methods.discovery.trial import Measured, joined
from diffexplain_fast.methods.discovery.wording import instruments_of
from diffexplain_fast.stats.instruments import Words
from diffexplain_fast.stats.strata import Strata


def read(
    plan: Plan, seen: np.ndarray, errors: Sequence[Errors], groups: Sequence[int], concepts: Concepts
) -> tuple[Words, list[np.ndarray | None]]:
    """Return the words of captions as instruments, and what their pictures show.

    Args:
        plan: the captions.
        seen: what the eye saw in the pictures, [pictures, concepts].
        errors: of the eye in every group.
        groups: that are told by what is shown.
        concepts: what was asked for.
    """
    said = instruments_of(plan.asked, plan.words, concepts)
    words = Words.one_each(plan.asked.design, plan.asked.levels) if said is None else said
    return words, shown_in(seen, errors, groups, len(plan.asked.levels))


def strata_of(
    plan: Plan,
    data: Measured,
    errors: Sequence[Errors],
    groups: Sequence[int],
    concepts: Concepts,
    own: Sequence[int | None],
    beside: Mapping[int, tuple[Plan, Measured]],
) -> list[Strata | None]:
    """Return the pictures with and without the own object of every target: asked for, and seen where the eye tells.

    Args:
        plan: the captions.
        data: what was said of the pictures, and what the eye saw.
        errors: see ``read``.
        groups: see ``read``.
        concepts: see ``read``.
        own: place of every target's own object among the concepts; None where there is none.
        beside: place of a target to plan and data of more pictures of its own object.
    """
    found: list[Strata | None] = []
    for target, place in enumerate(own):
        more = beside.get(target)
        captions, said = (plan, data) if more is None else (plan.joined(more[0]), joined([data, more[1]]))
        if place is None or said.seen is None:
            found.append(None)
            continue
        asked, column = captions.asked.named[:, place], int(captions.asked.columns[place])
        there = said.seen[:, place] == 1 if column in groups else asked
        words, shown = read(captions, said.seen, errors, groups, concepts)
        outcome = said.values[:, [target]]
        found.append(Strata(captions.asked, words, shown, outcome, asked & there, ~asked & ~there, column))
    return found
