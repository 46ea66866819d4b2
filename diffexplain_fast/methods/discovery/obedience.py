"""Whether the generator draws what it is asked for, as far as an eye can tell."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diffexplain_fast.evidence.calibration import Errors
from diffexplain_fast.stats.intervals import wilson_interval
from diffexplain_fast.stats.shares import exact_shares

_LEAST = 0.05
"""By how much, at least, an eye must see a concept more often where it is asked for than where it is not."""


class Obedience(NamedTuple):
    """How often a concept is there where it is asked for.

    Attributes:
        share: of the pictures that ask for the concept, the eye's errors undone where they are known; None where the
            eye cannot tell.
        drawable: False where the concept is not shown to be there more often than in the other pictures; True where
            the eye cannot tell.
    """

    share: float | None
    drawable: bool


def obedience(asked: np.ndarray, seen: np.ndarray | None, errors: Sequence[Errors] | None) -> list[Obedience]:
    """Return how often every concept is there where it is asked for.

    Args:
        asked: whether a picture asks for a concept, bool [pictures, concepts].
        seen: 1, 0 or NaN, [pictures, concepts]; None without an eye.
        errors: of the eye in every group; None where they are not known.
    """
    if seen is None:
        return [Obedience(None, True)] * asked.shape[1]
    return [_one(asked[:, place], seen, place, errors) for place in range(asked.shape[1])]


def _one(asked: np.ndarray, seen: np.ndarray, place: int, errors: Sequence[Errors] | None) -> Obedience:
    pictures = int(asked.sum())
    known = next((group for group in errors or () if place in group.places), None)
    if not pictures or np.isnan(seen[:, place]).any() or (errors is not None and (known is None or not known.believed)):
        return Obedience(None, True)
    hits, usual = int(seen[asked, place].sum()), float(seen[~asked, place].mean()) if pictures < len(asked) else 0.0
    low, _ = wilson_interval(hits, pictures)
    share = hits / pictures
    if known is not None:
        undone = known.undone(seen[asked][:, known.places].mean(0))
        share = float(exact_shares(undone[known.places.tolist().index(place)].clip(0, 1)))
    return Obedience(share, low > usual + _LEAST)
