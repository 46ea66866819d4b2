"""Which cells of a trial are findings, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from diffexplain_fast.methods.discovery.cells import fitted
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.stats.decisions import Control, Look, classify, findings, one_sided_tests, reported_interval
from diffexplain_fast.stats.effects import Effects


class Rule(NamedTuple):
    """When a cell is a finding.

    Attributes:
        looks: numbers of pictures at which cells are tested, and the levels that are spent there.
        delta: minimal effect.
        level: error of the intervals.
        control: of false findings; see ``one_sided_tests``.
        seed: of the bootstrap.
    """

    looks: Sequence[Look]
    delta: float
    level: float
    control: Control
    seed: int


@dataclass(frozen=True)
class Judged:
    """The cells of a trial after its last look; arrays are [cells, targets].

    Attributes:
        effects: estimates and errors.
        found: 1 above the minimal effect, -1 below its negative, 0 not found.
        low: lower end of the interval.
        high: upper end.
        p: of the test in the direction of the estimate.
        adjusted: the same, adjusted over all cells.
        names: "finding", "none", "small" or "undecided".
        named: whether a cell is a concept, bool [cells]: that a free word is missing is none.
        pictures: how many the trial took.
    """

    effects: Effects
    found: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    adjusted: np.ndarray
    names: np.ndarray
    named: np.ndarray
    pictures: int


def judge(plan: Plan, values: np.ndarray, rule: Rule, spent: float, earlier: np.ndarray | None) -> Judged:
    """Return the cells of a trial at one look.

    Args:
        plan: the captions of the pictures.
        values: of the targets, float [pictures, targets].
        rule: of the tests.
        spent: level of the tests at this look.
        earlier: what was found at the looks before.
    """
    fit, effects = fitted(plan, values)
    named = (effects.groups < plan.groups) | (effects.values == 1)
    family = np.broadcast_to(named[:, None], effects.estimate.shape)
    tests = one_sided_tests(effects, rule.delta, rule.control, family, fit, rule.seed)
    found = findings(tests, spent, earlier)
    low, high = reported_interval(effects, found, tests.tested, rule.level)
    above = effects.estimate >= 0
    return Judged(
        effects=effects,
        found=found,
        low=low,
        high=high,
        p=np.where(above, tests.above, tests.below),
        adjusted=np.where(above, tests.adjusted_above, tests.adjusted_below),
        names=classify(effects.estimate, low, high, found, tests.tested, rule.delta),
        named=named,
        pictures=len(values),
    )
