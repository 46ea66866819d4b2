"""Which caption names which values: balanced arrays that grow in blocks."""

from collections.abc import Sequence

import numpy as np

Design = np.ndarray
"""int64 [captions, groups]: the value of every group in every caption, ``LEFT_OUT`` where the group is not named."""
LEFT_OUT = -1
BLOCK = 96
"""Captions of a block: a design grows by whole blocks, and each block is balanced on its own."""


def balanced_design(
    levels: Sequence[int], count: int, seed: int, left_out_share: float | None = None, first: int = 0
) -> Design:
    """Return captions in which every value, and every pair of values of two groups, is named equally often.

    The captions of a smaller count are the first of a larger one.

    Args:
        levels: number of values of every group, at least 1 each; a value "nothing" is an ordinary value.
        count: number of captions, at least 0.
        seed: 0 or above; the same seed gives the same captions.
        left_out_share: share of the captions that leave a group out, at most 1 / (k + 1) for a group of k values;
            None for just that.
        first: index of the first caption that is returned.

    Returns:
        int64 [count, groups], from 0 to the group's number of values - 1, ``LEFT_OUT`` where the group is left out.

    Raises:
        ValueError: an argument out of its range.
    """
    raise NotImplementedError


def bag_design(words: int, size: int, count: int, seed: int) -> np.ndarray:
    """Return bags of words without a grammar: bool [count, words], ``size`` words each, every word equally often."""
    raise NotImplementedError
