"""Simulated trials with known effects, for the tests of the statistics."""

import numpy as np

from diffexplain_fast.stats.design import balanced_design


def trial(
    effects: list[np.ndarray], pictures: int, noise: np.ndarray, left_out_share: float | None = None
) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Return design, levels and outcomes [pictures, outcomes]: a mean for every named value, plus noise.

    A caption that leaves a group out shows the mean of its values.
    """
    levels = [len(effect) for effect in effects]
    design = balanced_design(levels, pictures, 3, left_out_share)
    means = sum(np.append(effect, effect.mean())[design[:, group]] for group, effect in enumerate(effects))
    return design, levels, means[:, None] + noise


def against_medians(effects: list[np.ndarray]) -> np.ndarray:
    """Return the true effects of all cells, [cells, 1]."""
    return np.concatenate([effect - np.median(effect) for effect in effects])[:, None]
