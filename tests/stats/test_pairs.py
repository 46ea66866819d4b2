"""Pairs of values: found in the pool, none on additive outcomes, and named by the rule on fresh scenes."""

import numpy as np
import pytest

from diffexplain_fast.stats.pairs import LEAST_JOINT, all_pairs, paired
from diffexplain_fast.stats.regression import least_squares
from tests.stats.trials import trial

EFFECTS = [np.append(2.0, np.zeros(7)), np.zeros(8), np.append(1.0, np.zeros(3))]


def test_a_conjunction_and_an_alternative_are_found_and_nothing_else() -> None:
    # Seed 0, 480 pictures: outcomes 0 to 39 are additive, 40 to 59 a conjunction, 60 to 79 an alternative.
    noise = np.random.default_rng(0).standard_normal((480, 80))
    design, levels, outcomes = trial(EFFECTS, 480, noise, left_out_share=0.0)
    first, second = design[:, [0]] == 3, design[:, [1]] == 5
    outcomes[:, 40:60] += 6 * (first & second)
    outcomes[:, 60:] += 6 * (first | second)
    pairs = all_pairs(least_squares(design, levels, outcomes), design)
    planted = (pairs.first == 3) & (pairs.second == 8 + 5)
    above, below = pairs.adjusted_above <= 0.05, pairs.adjusted_below <= 0.05
    assert planted.sum() == 1 and pairs.pictures[planted] == (first & second).sum()
    assert above[planted, 40:60].mean() >= 0.95 and below[planted, 60:].mean() >= 0.95
    assert (above | below)[:, :40].sum() == 0 and (above | below)[~planted].sum() <= 4
    assert np.abs(pairs.estimate[planted, 40:60].mean() - 6) < 0.5


def test_each_estimate_is_one_more_column_of_the_regression() -> None:
    noise = np.random.default_rng(1).standard_normal((200, 2))
    design, levels, outcomes = trial([np.zeros(3), np.zeros(4)], 200, noise)
    fit = least_squares(design, levels, outcomes)
    pairs = all_pairs(fit, design)
    assert len(pairs.first) == 12
    joint = ((design[:, 0] == 1) & (design[:, 1] == 2)).astype(float)
    x = np.concatenate([fit.x, joint[:, None]], 1)
    solve = np.linalg.pinv(x)
    left = (outcomes - x @ solve @ outcomes) / (1 - (x * solve.T).sum(1))[:, None]
    place = ((pairs.first == 1) & (pairs.second == 3 + 2)).nonzero()[0][0]
    assert np.allclose(pairs.estimate[place], (solve @ outcomes)[-1])
    hc3 = np.sqrt(solve[-1] ** 2 @ left**2)
    assert (pairs.error[place] >= hc3 - 1e-9).all() and np.allclose(pairs.error[place], hc3, rtol=0.3)


def test_no_false_pairs_where_the_joint_pictures_vary_more() -> None:
    # Seed 2: 300 additive outcomes whose spread is three times as large where two values meet.
    random = np.random.default_rng(2)
    noise = random.standard_normal((288, 300))
    design, levels, outcomes = trial([np.zeros(5), np.zeros(6)], 288, np.zeros((288, 300)), left_out_share=0.0)
    spread = np.where((design[:, [0]] == 1) & (design[:, [1]] == 1), 3.0, 1.0)
    pairs = all_pairs(least_squares(design, levels, outcomes + spread * noise), design, 0.0)
    t = np.abs(pairs.estimate / pairs.error)
    wide = (pairs.first == 1) & (pairs.second == 6)
    assert wide.sum() == 1 and (t[wide] > 2).mean() < 0.13 and (t > 2).mean() < 0.06


def test_pairs_with_few_pictures_are_left_out() -> None:
    design, levels, outcomes = trial([np.zeros(8), np.zeros(8)], 96, np.zeros((96, 1)))
    assert len(all_pairs(least_squares(design, levels, outcomes), design).first) == 0
    assert LEAST_JOINT == 6


MEANS = {  # neither, first, second, both
    "and": (0, 0, 0.3, 6),
    "or": (0, 5, 5, 5.1),
    "add": (0, 3, 3, 6),
    "one": (0, 6, 0, 6),
    "none": (0, 0, 0, 0),
}


@pytest.mark.parametrize("kind", MEANS)
def test_kinds_on_fresh_scenes(kind: str) -> None:
    # Seed 3, 200 pairs of 16 scenes; the scene's own level is shared by its four pictures.
    random = np.random.default_rng(3)
    level = random.normal(0, 3, (16, 1, 200))
    scenes = level + np.array(MEANS[kind], dtype=float)[None, :, None] + random.normal(0, 0.3, (16, 4, 200))
    result = paired(scenes)
    wanted = kind if kind in ("and", "or") else "add"
    assert (result.kind == wanted).mean() >= 0.95
    added = MEANS[kind][3] - MEANS[kind][1] - MEANS[kind][2]
    assert ((result.low <= added) & (added <= result.high)).mean() >= 0.91
    assert (result.p < 0.05).mean() > 0.95 if kind in ("and", "or") else (result.p < 0.05).mean() < 0.05


def test_at_the_edge_of_a_kind_its_name_is_as_rare_as_the_level() -> None:
    # Seed 4, 1,000 pairs: both adds just the margin to the first, so that "and" is false.
    random = np.random.default_rng(4)
    scenes = np.array([0, 0.25, 0, 0.75])[None, :, None] + random.normal(0, 0.1, (12, 4, 1000))
    assert (paired(scenes).kind == "and").mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000)


def test_refuses_few_scenes() -> None:
    with pytest.raises(ValueError, match="scenes: wanted"):
        paired(np.zeros((5, 4, 1)))


def test_rounding_makes_no_kind_and_no_interaction() -> None:
    # Exact sums: each alone does 2, both 4; the interaction of 1 is not above the minimal one of 1.
    rounding = 1e-7 * np.random.default_rng(0).random((16, 4, 8)) * [[[0], [0], [0], [1]]]
    scenes = np.array([0.0, 2.0, 2.0, 4.0])[:, None] + np.zeros((16, 4, 8)) + rounding
    assert (paired(scenes).kind == "add").all()
    scenes = np.array([0.0, 2.0, 2.0, 5.0])[:, None] + np.zeros((16, 4, 8)) + rounding
    assert (paired(scenes).p > 0.05).all() and (paired(scenes, delta=0.9).p < 1e-9).all()
    design = trial([np.zeros(4), np.zeros(4)], 192, np.zeros((192, 1)), left_out_share=0.0)[0]
    outcomes = 1.0 * ((design[:, 0] == 1) & (design[:, 1] == 2))[:, None] + 4.0 * (design[:, [0]] == 0)
    found = all_pairs(least_squares(design, [4, 4], outcomes), design, 1.0)
    assert (np.minimum(found.adjusted_above, found.adjusted_below) > 0.05).all()
