"""What the captions of pictures ask for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.stats.coding import cells_of, columns
from diffexplain_fast.stats.regression import check_effective, effective_pictures


@dataclass(frozen=True, eq=False)
class Asked:
    """What the captions of pictures ask for; ``part`` is the one way to fewer pictures.

    Attributes:
        design: int64 [pictures, columns]: the value of every group, -1 where it is left out, then for every free word
            whether it is there.
        levels: number of values of every column.
        groups: number of columns that are groups; the others are free words.
        weights: float [pictures], how much each counts, so that they stand for a user's distribution; None for equally.

    Raises:
        ValueError: weights of another number of pictures.
    """

    design: np.ndarray
    levels: tuple[int, ...]
    groups: int
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and len(self.weights) != len(self.design):
            raise wrong_value("weights", f"{len(self.design)} numbers, one a picture", len(self.weights))

    @property
    def places(self) -> np.ndarray:
        """Cells that are concepts, int [concepts]: all values of groups, and of a free word that it is there."""
        columns, values = cells_of(self.levels)
        return np.flatnonzero((columns < self.groups) | (values == 1))

    @property
    def columns(self) -> np.ndarray:
        """Column of the design in which each concept is, int [concepts]."""
        return np.asarray(cells_of(self.levels)[0][self.places])

    @property
    def named(self) -> np.ndarray:
        """Whether a picture asks for a concept, bool [pictures, concepts]."""
        return np.asarray(self.design[:, self.columns] == cells_of(self.levels)[1][self.places])

    def part(self, rows: np.ndarray | slice) -> "Asked":
        """Return what some of the captions ask for."""
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, design=self.design[rows], weights=weights)

    def and_more(self, more: Mapping[int, "Asked"]) -> "Asked":
        """Return what these captions ask for, and then those of more pictures that all ask for one concept.

        The weights undo that some concepts are asked for more often then: a picture x counts

            n / (n + sum_p n_p [x asks for p] / s_p)

        with n of these pictures, n_p more that ask for the concept p, and s_p the share of these that ask for it: the
        density of these captions at x over that of all together.

        Args:
            more: place of a concept to the captions that all ask for it.

        Source: the balance heuristic, E. Veach and L. Guibas, "Optimally combining sampling techniques for Monte Carlo
        rendering", SIGGRAPH 1995.
        """
        parts = [self, *more.values()]
        every = replace(self, design=np.concatenate([part.design for part in parts]), weights=None)
        named, count = every.named, len(self.design)
        density = np.full(len(named), float(count))
        for place, part in more.items():
            density += len(part.design) / max(self.named[:, place].mean(), 1 / count) * named[:, place]
        given = [np.ones(len(part.design)) if part.weights is None else part.weights for part in parts]
        return replace(every, weights=np.concatenate(given) * count / density)

    def unweighted(self) -> "Asked":
        """Return the same captions, of which each counts equally."""
        return replace(self, weights=None)

    @property
    def effective(self) -> float | None:
        """How many pictures of equal weight the weighted ones are worth; None without weights."""
        return None if self.weights is None else effective_pictures(self.weights)

    @property
    def terms(self) -> int:
        """Number of columns of the regression, without those of groups that captions leave out."""
        return 1 + sum(count - 1 for count in self.levels)

    @property
    def rank(self) -> int:
        """Number of independent columns of the regression; only more pictures than that say how sure effects are."""
        return int(np.linalg.matrix_rank(columns(self.design, self.levels)))

    @property
    def most_terms(self) -> int:
        """The rank that no part of these captions exceeds: a group that some leave out has one column more."""
        return self.terms + int((self.design < 0).any(0).sum())

    def least(self, column: int) -> int:
        """Return how many pictures that all ask for one value of a column are enough for effects in them, one by one:
        two of every value of each other column."""
        return 2 * max((count for at, count in enumerate(self.levels) if at != column), default=1)


def check_asked(asked: Asked, looks: Sequence[int]) -> None:
    """Refuse captions that tell too little, whatever is said of their pictures.

    Args:
        asked: what all captions of a trial ask for.
        looks: numbers of pictures at which effects are estimated.

    Raises:
        ValueError: weights that are worth fewer than 50 pictures of equal weight; fewer pictures than terms at a look.
    """
    if asked.weights is not None:
        check_effective(asked.weights)
    if min(looks) <= asked.part(slice(min(looks))).rank:
        wanted = (
            f"more than {asked.most_terms}, one a term of these concepts; ask for more pictures, or name fewer concepts"
        )
        raise wrong_value("pictures", wanted, min(looks))
