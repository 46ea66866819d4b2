"""Values of groups as columns of a regression, and combinations of columns as cells."""

from collections.abc import Sequence

import numpy as np

from diffexplain_fast.errors import wrong_value


def check_design(design: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """Return the design as int64.

    Raises:
        ValueError: a shape other than [pictures, groups], or a value that is not of its group.
    """
    design = np.asarray(design)
    if design.ndim != 2 or design.shape[1] != len(levels) or not np.issubdtype(design.dtype, np.integer):
        raise wrong_value("design", f"int [pictures, {len(levels)}]", f"{design.dtype} {list(design.shape)}")
    if (design < -1).any() or (design >= np.array(levels)).any():
        raise wrong_value(
            "design", f"values from -1 to below {list(levels)}", [design.min(0).tolist(), design.max(0).tolist()]
        )
    return design.astype(np.int64)


def indicators(design: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """Return float [pictures, cells]: 1 where the caption names the value of the cell."""
    return np.concatenate([np.arange(k) == design[:, [group]] for group, k in enumerate(levels)], 1).astype(np.float64)


def columns(design: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """Return float [pictures, 1 + cells + groups]: one, every cell, and every group's being left out.

    The columns of a group add up to one. The regression takes the least norm among the equal solutions, and only
    differences inside a group, which all solutions share, are read from it.
    """
    return np.concatenate([np.ones((len(design), 1)), indicators(design, levels), (design < 0).astype(np.float64)], 1)


def cells_of(levels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return group and value of every cell, int [cells] each."""
    groups = np.repeat(np.arange(len(levels)), levels)
    return groups, np.concatenate([np.arange(k) for k in levels])


def uniform_over_others(levels: Sequence[int], present: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return [columns of ``columns``, cells]: each cell's mean outcome where the other groups are uniform.

    Args:
        levels: number of values of every group.
        present: bool [cells], values that at least one caption names; only those are averaged over.
        weights: float [cells]: how much a value counts in its group, in place of a uniform distribution; None for that.
    """
    groups, _ = cells_of(levels)
    inside = ((groups[:, None] == np.arange(len(levels))) & present[:, None]).astype(np.float64)
    inside *= 1.0 if weights is None else weights[:, None]
    average = (inside / np.maximum(inside.sum(0), 1e-300)).sum(1)
    means = np.where(groups[:, None] == groups[None, :], 0.0, average[:, None])
    means[np.arange(len(groups)), np.arange(len(groups))] = 1.0
    ones, none = np.ones((1, len(groups))), np.zeros((len(levels), len(groups)))
    return np.concatenate([ones, means, none])
