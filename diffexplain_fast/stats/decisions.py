"""From effects with errors to findings: two one-sided tests a cell, looks whose levels add up, and what to call a cell."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from diffexplain_fast.stats.regression import Effects, Fit

Control = Literal["fdr", "any", "family"]


class Look(NamedTuple):
    """A number of pictures at which cells are tested, and the level that is spent there."""

    pictures: int
    level: float


def looks(pictures: int, level: float = 0.05) -> tuple[Look, ...]:
    """Return the planned looks up to a limit: 96, 192, 384, 768 at .1, .2, .3, .4 of the level; the last at the limit."""
    raise NotImplementedError


@dataclass(frozen=True)
class Tests:
    """Two one-sided tests a cell: p-values and adjusted p-values of "effect > delta" and of "effect < -delta".

    Attributes:
        p, adjusted: float [2, cells, outcomes]; direction 0 is above, 1 is below. NaN where there is no estimate.
    """

    p: np.ndarray
    adjusted: np.ndarray


def test_cells(effects: Effects, delta: float, control: Control = "fdr", fit: Fit | None = None, seed: int = 0) -> Tests:
    """Return both tests of every cell, adjusted over all cells, outcomes and directions.

    A cell is found at a look if ``adjusted <= look.level``.
    """
    raise NotImplementedError


def classify(
    found: np.ndarray, low: np.ndarray, high: np.ndarray, delta: float
) -> np.ndarray:
    """Return "finding", "none", "small" or "undecided" for every cell."""
    raise NotImplementedError
