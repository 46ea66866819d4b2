"""Simulated audits that grow: a world of known effects, whose truth and false findings are counted rightly."""

import numpy as np
import pytest

from benchmarks.discovery.grown import World, figures, grown, plan_of, together, world_of
from diffexplain_fast.methods.discovery.options import AuditOptions
from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.cells import estimate
from diffexplain_fast.stats.design import balanced_design

LEVELS = (3, 4)
OWN = (0, 1, 2)
"""Three targets, which are the three objects."""
PLANTED = 4.0


def answered(design: np.ndarray, spread: float) -> np.ndarray:
    """Return answers of three targets: each to its own object, the first also to value 2 of the second group."""
    values = np.random.default_rng(1).normal(scale=spread, size=(len(design), 3))
    for target in OWN:
        values[:, target] += 2.0 * (design[:, 0] == target)
    values[:, 0] += PLANTED * (design[:, 1] == 2)
    return values


def world(spread: float = 0.5) -> World:
    design = balanced_design(LEVELS, 576, 3, 0.0)
    return world_of(design, LEVELS, 0, answered(design, spread), OWN)


def test_the_truth_of_a_simulated_world_is_what_was_planted() -> None:
    truth = world(0.0).truth()
    planted = np.zeros((7, 3))
    planted[[0, 1, 2], [0, 1, 2]] = 2.0
    planted[5, 0] = PLANTED
    assert truth == pytest.approx(planted, abs=1e-9)


def test_the_truth_is_what_an_audit_estimates_without_residuals() -> None:
    design, rng = balanced_design(LEVELS, 576, 4, 0.0), np.random.default_rng(5)
    means = [np.concatenate([rng.normal(size=(8, 3)), np.zeros((2, 3))]) for _ in range(3)]
    made = World(LEVELS, 0, means, [np.zeros((1, 3))] * 3, OWN)
    asked = Asked(design, LEVELS, 2)
    found = estimate(asked, made.mean(design), OWN, len(design)).effects.estimate[asked.places]
    assert np.abs(found - made.truth()).max() < 0.05


def test_residuals_are_those_of_the_same_object() -> None:
    design = balanced_design(LEVELS, 576, 3, 0.0)
    noisy = answered(design, 0.0)
    noisy[design[:, 0] == 1] += np.random.default_rng(2).normal(size=(int((design[:, 0] == 1).sum()), 3))
    found = world_of(design, LEVELS, 0, noisy, OWN)
    said = found.answers(design, np.random.default_rng(3)) - found.mean(design)
    assert said[design[:, 0] == 1].std() == pytest.approx(1.0, abs=0.15)
    assert np.abs(said[design[:, 0] != 1]).max() < 1e-9


def test_an_audit_of_a_simulated_world_finds_what_was_planted_and_nothing_else() -> None:
    made = world()
    options = AuditOptions(pictures=192)
    row = figures(grown(made, options, 5), made.truth(), options.minimal_effect)
    assert row["found"] == row["clear"] == row["clear found"] == row["findings covered"] == 4 and row["false"] == 0
    backwards = figures(grown(made, options, 5), -made.truth(), options.minimal_effect)
    assert backwards["false"] == 4 and backwards["clear found"] == 0
    both = together([row, backwards], 21)
    assert both["audits with a false finding"]["share"] == 0.5 and both["false discovery rate"] == 0.5
    assert both["clear cells found"] == 0.5 and both["cells"] == 21 and both["findings an audit"] == 4


def test_captions_of_one_object_ask_for_that_object_only() -> None:
    plan = plan_of(world(), 96, 0, 1)
    assert (plan.asked.design[:, 0] == 1).all() and len(plan.captions) == 96
