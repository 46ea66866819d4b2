"""Scenes of a pair of concepts: with neither of them, with the first, the second, and both."""

from collections.abc import Mapping, Sequence

import numpy as np

Cell = tuple[str, str]
"""Group and value of a concept."""


def without_neither(groups: Mapping[str, Sequence[str]], avoided: Sequence[Cell]) -> list[str]:
    """Return the groups of which a scene with neither concept, and without the own object, can show no value.

    Args:
        groups: group names and their values.
        avoided: both concepts, and the target's own object where it is one of the concepts.
    """
    return [group for group, values in groups.items() if not _left(group, values, avoided)]


def pair_scenes(
    groups: Mapping[str, Sequence[str]], pair: tuple[Cell, Cell], own: Cell | None, count: int, rng: np.random.Generator
) -> list[list[dict[str, str]]]:
    """Return the scenes of the four variants; the target's own object is in none of them.

    A group without another value is left out: a value of the pair, or the own object, would be in scenes of neither.

    Args:
        groups: group names and their values.
        pair: both concepts, of different groups.
        own: the target's own object; None where it is no concept.
        count: scenes of a variant.
        rng: chooses the other values.
    """
    avoided = [*pair, *([] if own is None else [own])]
    variants: list[list[dict[str, str]]] = [[], [], [], []]
    for _ in range(count):
        left = {group: _left(group, values, avoided) for group, values in groups.items()}
        scene = {group: str(rng.choice(values)) for group, values in left.items() if values}
        for place, added in enumerate(([], pair[:1], pair[1:], pair)):
            said = scene | dict(added)
            variants[place].append({group: said[group] for group in groups if group in said})
    return variants


def _left(group: str, values: Sequence[str], avoided: Sequence[Cell]) -> list[str]:
    return [value for value in values if (group, value) not in avoided]
