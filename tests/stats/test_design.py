"""Balanced designs: every value and pair equally often, grown in blocks that never change."""

import functools
import itertools

import numpy as np
import pytest

from diffexplain_fast.stats.design import LEFT_OUT, bag_design, balanced_design

LEVELS = [8, 8, 4, 9, 7]


@functools.cache
def design_of(seed: int) -> np.ndarray:
    return balanced_design(LEVELS, 384, seed)


def pair_counts(design: np.ndarray, g: int, h: int) -> np.ndarray:
    both = design[(design[:, g] >= 0) & (design[:, h] >= 0)]
    counts = np.zeros((LEVELS[g], LEVELS[h]), dtype=int)
    np.add.at(counts, (both[:, g], both[:, h]), 1)
    return counts


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("captions", [slice(0, 96), slice(96, 192), slice(0, 192), slice(0, 384)], ids=str)
def test_values_and_pairs_are_named_equally_often(seed: int, captions: slice) -> None:
    design = design_of(seed)[captions]
    for group, k in enumerate(LEVELS):
        named = np.bincount(design[:, group] + 1, minlength=k + 1)
        assert np.ptp(named[1:]) <= 1
        assert named[0] * (k + 1) <= len(design)
    for g, h in itertools.combinations(range(len(LEVELS)), 2):
        counts = pair_counts(design, g, h)
        # Counts around a mean such as 1.2 or 4.3 cannot all be within 1 of it and whole; 2 apart is one more exchange.
        assert np.abs(counts - counts.mean()).max() <= 1.75 and np.ptp(counts) <= (2 if len(design) == 96 else 3)


def test_exact_where_the_count_allows() -> None:
    design = balanced_design([1] * 8, 96, 0)
    joint = [((design[:, g] == 0) & (design[:, h] == 0)).sum() for g, h in itertools.combinations(range(8), 2)]
    assert set(joint) == {24}


def test_smaller_designs_are_the_first_captions_of_larger_ones() -> None:
    design = design_of(5)
    assert (balanced_design(LEVELS, 100, 5) == design[:100]).all()
    assert (balanced_design(LEVELS, 60, 5, first=40) == design[40:100]).all()
    assert (design_of(0) != design).any()
    assert balanced_design(LEVELS, 0, 5).shape == (0, 5)


def test_first_captions_are_nearly_balanced() -> None:
    design = design_of(0)[:36]
    named = [np.bincount(design[:, group] + 1, minlength=k + 1)[1:] for group, k in enumerate(LEVELS)]
    assert max(np.ptp(counts) for counts in named) <= 2


def test_left_out_share() -> None:
    assert (balanced_design(LEVELS, 96, 0, left_out_share=0.0) != LEFT_OUT).all()
    few = balanced_design(LEVELS, 96, 0, left_out_share=0.05)
    assert ((few == LEFT_OUT).sum(0) == 4).all()


@pytest.mark.parametrize(
    ("levels", "count", "seed", "share"), [([], 9, 0, None), ([3, 0], 9, 0, None), ([3], -1, 0, None), ([3], 9, 0, 0.7)]
)
def test_refuses(levels: list[int], count: int, seed: int, share: float | None) -> None:
    with pytest.raises(ValueError, match="wanted"):
        balanced_design(levels, count, seed, share)


def test_bags_name_every_word_equally_often() -> None:
    bags = bag_design(27, 4, 270, 0)
    assert (bags.sum(1) == 4).all() and (bags.sum(0) == 40).all()
    assert (bag_design(27, 4, 100, 0) == bags[:100]).all()
    pairs = (bags.T.astype(int) @ bags)[np.triu_indices(27, 1)]
    assert pairs.min() >= 1 and pairs.max() <= 10
    with pytest.raises(ValueError, match="size: wanted"):
        bag_design(3, 4, 10, 0)
