"""The cells of a trial: effects of everything that captions ask for, and which of them are findings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from diffexplain_fast.stats.decisions import Control, Look, classify, findings, one_sided_tests, reported_interval
from diffexplain_fast.stats.effects import Effects, against_median
from diffexplain_fast.stats.regression import Fit, least_squares


class Asked(NamedTuple):
    """What the captions of pictures ask for.

    Attributes:
        design: int64 [pictures, columns]: the value of every group, -1 where it is left out, then for every free word
            whether it is there.
        levels: number of values of every column.
        groups: number of columns that are groups; the others are free words.
    """

    design: np.ndarray
    levels: tuple[int, ...]
    groups: int

    @property
    def places(self) -> np.ndarray:
        """Cells that are concepts, int [concepts]: all values of groups, and of a free word that it is there."""
        starts = np.concatenate([[0], np.cumsum(self.levels)]).astype(np.int64)
        words = starts[self.groups : -1] + 1
        return np.concatenate([np.arange(starts[self.groups]), words])

    @property
    def named(self) -> np.ndarray:
        """Whether a picture asks for a concept, bool [pictures, concepts]."""
        columns = np.repeat(np.arange(len(self.levels)), self.levels)[self.places]
        values = np.concatenate([np.arange(count) for count in self.levels])[self.places]
        return np.asarray(self.design[:, columns] == values)

    @property
    def terms(self) -> int:
        """Number of columns of the regression."""
        return 1 + sum(count - 1 for count in self.levels)


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
    """The concepts of a trial after a look; arrays are [concepts, targets].

    Attributes:
        estimate: effects.
        low: lower end of the interval.
        high: upper end.
        p: of the test in the direction of the estimate.
        adjusted: the same, adjusted over all concepts, targets and directions.
        found: 1 above the minimal effect, -1 below its negative, 0 not found.
        names: "finding", "none", "small" or "undecided".
    """

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    adjusted: np.ndarray
    found: np.ndarray
    names: np.ndarray


def concept_effects(asked: Asked, outcomes: np.ndarray) -> tuple[Fit, Effects]:
    """Return the regression of outcomes on what captions ask for, and the effects of all cells.

    A free word is either there or not: its effect is against its absence, which is twice that against the median of
    the two.

    Args:
        asked: what the captions ask for.
        outcomes: float [pictures, outcomes].
    """
    fit = least_squares(asked.design, asked.levels, outcomes)
    effects = against_median(fit)
    word = (effects.groups >= asked.groups)[:, None]
    factor = np.where(word, 2.0, 1.0)
    doubled = replace(effects, estimate=effects.estimate * factor, error=effects.error * factor)
    return fit, replace(doubled, medians=np.where(word, effects.means - doubled.estimate, effects.medians))


def judge(
    asked: Asked, fit: Fit | None, effects: Effects, rule: Rule, spent: float, earlier: np.ndarray | None = None
) -> Judged:
    """Return which concepts are findings at one look.

    Args:
        asked: what the captions ask for.
        fit: the regression; None only where the rule does not control the family.
        effects: of all cells.
        rule: of the tests.
        spent: level of the tests at this look.
        earlier: what was found at the looks before, int [concepts, targets].
    """
    places = asked.places
    family = np.zeros(effects.estimate.shape, dtype=bool)
    family[places] = True
    tests = one_sided_tests(effects, rule.delta, rule.control, family, fit, rule.seed)
    before = None
    if earlier is not None:
        before = np.zeros(effects.estimate.shape, dtype=np.int64)
        before[places] = earlier
    found = findings(tests, spent, before)
    low, high = reported_interval(effects, found, tests.tested, rule.level)
    names = classify(effects.estimate, low, high, found, tests.tested, rule.delta)
    above = effects.estimate >= 0
    p = np.where(above, tests.above, tests.below)
    adjusted = np.where(above, tests.adjusted_above, tests.adjusted_below)
    kept = (array[places] for array in (effects.estimate, low, high, p, adjusted, found, names))
    return Judged(*kept)
