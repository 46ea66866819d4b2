"""What of the effect of found tokens the concepts explain, and what kind of feature that makes them."""

import math
from collections.abc import Sequence

import numpy as np

from diffexplain_fast.evidence.calibration import Errors
from diffexplain_fast.stats.named import Named

DECIDED = ("unnamed", "named")
"""Kinds of features that more pictures need not decide."""
_MOSTLY = 0.5
"""Explained share of an effect from which it is called named."""


def seen_changes(
    change: np.ndarray, errors: Sequence[Errors] | None, weights: np.ndarray, sizes: Sequence[int]
) -> tuple[np.ndarray, float]:
    """Return by how much concepts come with the tokens, and how much what nobody sees may explain at most.

    Args:
        change: what the eye saw with the tokens minus without, [scenes, concepts]; NaN where it cannot tell.
        errors: of the eye in every group, which are undone; None where they are not known.
        weights: effects of the concepts.
        sizes: number of concepts of every group, and 1 for every free word.
    """
    changes, slack, ends = np.zeros_like(change), 0.0, np.cumsum(sizes)
    for group, (start, end) in enumerate(zip(ends - sizes, ends, strict=True)):
        known = errors[group] if errors is not None and group < len(errors) else None
        if (known is not None and not known.whole(end - start)) or np.isnan(change[:, start:end]).any():
            own = weights[start:end]
            slack += float(max(own.max(), 0) - min(own.min(), 0))
        elif known is None:
            changes[:, start:end] = change[:, start:end]
        else:
            changes[:, start:end] = np.linalg.solve(known.matrix, change[:, start:end].T).T
    return changes, slack


def kind_of(said: dict[str, Named], delta: float) -> str:
    """Return what kind of feature was found; see ``FoundFeature.kind``.

    Args:
        said: the effect in pictures as they are ("plain"), and in disturbed ones.
        delta: minimal effect.
    """
    usual = said["plain"]
    if usual.effect.low <= delta:
        return "not confirmed"
    if usual.unexplained.low > delta:
        return "unnamed" if all(one.unexplained.low > delta for one in said.values()) else "fragile"
    return "named" if usual.share.low > _MOSTLY and not math.isinf(usual.unexplained.low) else "undecided"
