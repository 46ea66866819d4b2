"""Whether the generator draws what it is asked for, as far as an eye can tell."""

from typing import NamedTuple

import numpy as np

from diffexplain_fast.stats.intervals import wilson_interval

_LEAST = 0.05
"""By how much, at least, an eye must see a concept more often where it is asked for than where it is not."""


class Obedience(NamedTuple):
    """How often an eye sees a concept.

    Attributes:
        share: of the pictures that ask for the concept.
        drawable: False where the share is not shown to be above that of the other pictures; True without an eye, or
            for a concept that the eye cannot see.
    """

    share: float | None
    drawable: bool


def obedience(asked: np.ndarray, seen: np.ndarray | None) -> Obedience:
    """Return how often an eye sees one concept.

    Args:
        asked: whether a picture asks for the concept, bool [pictures].
        seen: 1, 0 or NaN, [pictures]; None without an eye.
    """
    if seen is None or not asked.any() or np.isnan(seen).any():
        return Obedience(None, True)
    hits, others = int(seen[asked].sum()), seen[~asked]
    usual = float(others.mean()) if len(others) else 0.0
    low, _ = wilson_interval(hits, int(asked.sum()))
    return Obedience(hits / int(asked.sum()), low > usual + _LEAST)
