"""Which word names a value: every value may have several, each said equally often."""

import numpy as np

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.design import LEFT_OUT
from diffexplain_fast.stats.words import Words


def words_said(concepts: Concepts, design: np.ndarray, seed: int) -> np.ndarray:
    """Return which word names the value of every group, int64 [pictures, groups]; each word of a value equally often.

    Args:
        concepts: of the trial.
        design: int [pictures, groups], the values; -1 where a group is left out.
        seed: of the order of the words.
    """
    said = np.full(design.shape, LEFT_OUT)
    for column, group in enumerate(concepts.groups):
        places = np.array([place for _, place in concepts.words_of(group)])
        for value in range(len(concepts.groups[group])):
            own, rows = np.flatnonzero(places == value), np.flatnonzero(design[:, column] == value)
            rng = np.random.default_rng([seed, column, value])
            turns = [rng.permutation(own) for _ in range(-(-len(rows) // len(own)))]
            said[rows, column] = np.concatenate([*turns, own[:0]])[: len(rows)]
    return said


def synonyms_in(concepts: Concepts, said: np.ndarray) -> dict[str, str]:
    """Return the values of a caption that another word names, with that word.

    Args:
        concepts: of the trial.
        said: of the caption, int [groups], from ``words_said``.
    """
    found = {}
    for (group, values), number in zip(concepts.groups.items(), said.tolist(), strict=True):
        word, place = concepts.words_of(group)[number]
        if number != LEFT_OUT and word != values[place]:
            found[values[place]] = word
    return found


def instruments_of(asked: Asked, said: np.ndarray, concepts: Concepts) -> Words | None:
    """Return the words of the captions as instruments; None where every value has one word.

    A free word is its own instrument, there or not there.

    Args:
        asked: what the captions ask for.
        said: from ``words_said``.
        concepts: of the trial.
    """
    if not concepts.synonyms:
        return None
    grouped = [tuple(place for _, place in concepts.words_of(group)) for group in concepts.groups]
    free = asked.design[:, asked.groups :]
    return Words(np.concatenate([said, free], 1), (*grouped, *((0, 1) for _ in concepts.words)))
