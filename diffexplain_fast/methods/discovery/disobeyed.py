"""Where a generator disobeys its words: which groups must be told by what is shown, and what the pictures show."""

from collections.abc import Sequence

import numpy as np

from diffexplain_fast.evidence.calibration import Errors
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.discovery.obedience import obedience
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.methods.discovery.trial import Measured
from diffexplain_fast.stats.instruments import corrected

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
        if seen_whole(plan, data, errors, group) and any(share is not None and share < _OBEYED for share in shares):
            found.append(group)
    return found


def told_groups(plan: Plan, data: Measured, errors: Sequence[Errors] | None, concepts: Concepts) -> list[int]:
    """Return the groups that are told by what is shown: disobeyed ones, and those with values of several words.

    Args:
        plan: the captions.
        data: what was said of the pictures, and what the eye saw.
        errors: of the eye in every group; None where they are not known.
        concepts: what was asked for.
    """
    several = [
        n for n, (group, values) in enumerate(concepts.groups.items()) if len(concepts.words_of(group)) > len(values)
    ]
    whole = [group for group in several if seen_whole(plan, data, errors, group)]
    return sorted({*disobeyed_groups(plan, data, errors), *whole})


def shown_concepts(seen: np.ndarray, errors: Sequence[Errors], groups: Sequence[int]) -> np.ndarray:
    """Return what the pictures show, float [pictures, concepts]; NaN outside the groups. See ``shown_in``."""
    shown = np.full(seen.shape, np.nan)
    for group in groups:
        shown[:, errors[group].places] = corrected(seen[:, errors[group].places], errors[group].matrix)
    return shown


def shown_in(
    seen: np.ndarray, errors: Sequence[Errors], groups: Sequence[int], columns: int
) -> list[np.ndarray | None]:
    """Return what the pictures show in some groups, the eye's errors undone; None for the other columns.

    Args:
        seen: what the eye saw, [pictures, concepts].
        errors: of the eye in every group.
        groups: that are told by what is shown.
        columns: of the design.
    """
    shown: list[np.ndarray | None] = [None] * columns
    for group in groups:
        shown[group] = corrected(seen[:, errors[group].places], errors[group].matrix)
    return shown


def seen_whole(plan: Plan, data: Measured, errors: Sequence[Errors] | None, group: int) -> bool:
    """Return whether the eye sees all values of a group and tells them apart.

    Args:
        plan: the captions.
        data: what was said of the pictures, and what the eye saw.
        errors: of the eye in every group; None where they are not known.
        group: number of the group.
    """
    if errors is None or data.seen is None or group >= len(errors):
        return False
    error = errors[group]
    return error.whole(plan.asked.levels[group]) and np.allclose(error.matrix.sum(0), 1, atol=1e-6)
