"""Which words the captions say, where a value has several."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffexplain_fast.stats.coding import check_design


@dataclass(frozen=True)
class Words:
    """Which word named each group's value in every caption.

    Attributes:
        asked: int [pictures, groups]: number of the word among the words of its group, -1 where the group is left out.
        values: for every group, the value that each of its words names; every value has at least one word.
    """

    asked: np.ndarray
    values: tuple[tuple[int, ...], ...]

    @classmethod
    def one_each(cls, design: np.ndarray, levels: Sequence[int]) -> "Words":
        """Return the words of a design in which every value has one word."""
        return cls(check_design(design, levels), tuple(tuple(range(k)) for k in levels))

    @property
    def levels(self) -> tuple[int, ...]:
        """Number of words of every group."""
        return tuple(len(values) for values in self.values)

    @property
    def cells(self) -> tuple[int, ...]:
        """Number of values of every group."""
        return tuple(max(values) + 1 for values in self.values)

    @property
    def design(self) -> np.ndarray:
        """The value that is named, int [pictures, groups], -1 where the group is left out."""
        named = [np.array([*values, -1])[self.asked[:, group]] for group, values in enumerate(self.values)]
        return np.stack(named, 1)

    def part(self, rows: np.ndarray) -> "Words":
        """Return the words of some of the captions."""
        return Words(self.asked[rows], self.values)

    def column(self, group: int) -> "Words":
        """Return the words of one group only."""
        return Words(self.asked[:, [group]], self.values[group : group + 1])

    def of_cell(self) -> np.ndarray:
        """Return the cell that every word names, int [words], words and cells in the order of the groups."""
        starts = np.cumsum([0, *self.cells])
        return np.concatenate([np.array(values) + starts[group] for group, values in enumerate(self.values)])
