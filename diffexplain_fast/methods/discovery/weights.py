"""A user's own distribution of concepts: a picture of the pool counts as often as the user's pictures are like it."""

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np

from diffexplain_fast.errors import unknown_name, wrong_type, wrong_value
from diffexplain_fast.evidence.concepts import Concepts

Shares = Mapping[str, Mapping[str, float]]
"""Group to the share of each of its values, which add up to one."""


def shares_of(given: object, concepts: Concepts) -> Shares | None:
    """Return a user's distribution of concepts, checked and completed.

    Args:
        given: group to value to share, such as ``{"background": {"desert": 0.5, "snow": 0.3}}``, or None. Values that
            are not named have what is left in equal parts; groups that are not named are uniform.
        concepts: of the trial.

    Raises:
        TypeError: something else.
        ValueError: an unknown group or value, a share that is not above 0, shares of a group that leave nothing for its
            other values or do not add up to one.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping) or not given:
        raise wrong_type("weights", "a dict from groups to shares of their values, or None", given)
    if not concepts.groups:
        raise wrong_value(
            "weights", "None, because free words exclude nothing and have no shares", sorted(map(str, given))
        )
    found = {}
    for group, named in given.items():
        if group not in concepts.groups:
            raise unknown_name("weights", str(group), list(concepts.groups))
        found[group] = _completed(f"weights, {group}", named, concepts.groups[group])
    return found


def _completed(name: str, named: object, values: Sequence[str]) -> dict[str, float]:
    if not isinstance(named, Mapping):
        raise wrong_type(name, "a dict from values to shares", named)
    for value, share in named.items():
        if value not in values:
            raise unknown_name(name, str(value), list(values))
        if not isinstance(share, Real) or isinstance(share, bool):
            raise wrong_type(f"{name}, {value}", "a number", share)
        if not 0 < float(share) <= 1:
            raise wrong_value(f"{name}, {value}", "a share above 0, at most 1 (leave the value out otherwise)", share)
    others, total = [value for value in values if value not in named], float(sum(named.values()))
    if others and total >= 1:
        raise wrong_value(name, f"shares below 1 together, because {', '.join(others)} have the rest", total)
    if not others and abs(total - 1) > 1e-6:
        raise wrong_value(name, "shares that add up to 1", total)
    return {value: float(named.get(value, (1 - total) / max(len(others), 1))) for value in values}


def picture_weights(shares: Shares | None, concepts: Concepts, design: np.ndarray) -> np.ndarray | None:
    """Return how much every picture counts, float [pictures]; None where all count the same.

    A value that the captions name with probability 1 / k and that has the share p counts p k times; a group that a
    caption leaves out counts once.

    Args:
        shares: from ``shares_of``.
        concepts: of the trial.
        design: int [pictures, columns], groups first; -1 where a group is left out.
    """
    if shares is None:
        return None
    weights = np.ones(len(design))
    for column, (group, values) in enumerate(concepts.groups.items()):
        if group in shares:
            factors = np.array([*(shares[group][value] * len(values) for value in values), 1.0])
            weights *= factors[design[:, column]]
    return weights
