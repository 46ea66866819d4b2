"""The cells of a trial: effects of everything that captions ask for, and which of them are findings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from diffexplain_fast.stats.bootstrap import family_adjusted, largest_t
from diffexplain_fast.stats.decisions import (
    Control,
    Look,
    OneSided,
    classify,
    findings,
    one_sided_tests,
    reported_interval,
)
from diffexplain_fast.stats.effects import Effects, against_median
from diffexplain_fast.stats.regression import LEAST_EFFECTIVE, Fit, effective_pictures, least_squares


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
        tested: bool, whether a concept was tested.
        effects: of all cells, with their errors.
        level: error of the intervals.
    """

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    adjusted: np.ndarray
    found: np.ndarray
    names: np.ndarray
    tested: np.ndarray
    effects: Effects
    level: float

    def interval_of(self, effects: Effects, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return intervals of the same cells with other errors, selection-adjusted for what was found.

        Args:
            effects: of all cells.
            places: of the concepts among the cells.
        """
        kept = replace(
            effects, estimate=effects.estimate[places], error=effects.error[places], freedom=effects.freedom[places]
        )
        return reported_interval(kept, self.found, self.tested, self.level)


def concept_effects(asked: Asked, outcomes: np.ndarray, weights: np.ndarray | None = None) -> tuple[Fit, Effects]:
    """Return the regression of outcomes on what captions ask for, and the effects of all cells.

    A free word is either there or not: its effect is against its absence, which is twice that against the median of
    the two.

    Args:
        asked: what the captions ask for.
        outcomes: float [pictures, outcomes].
        weights: float [pictures], above 0; None for equal weights.
    """
    fit = least_squares(asked.design, asked.levels, outcomes, weights)
    effects = against_median(fit)
    word = (effects.groups >= asked.groups)[:, None]
    factor = np.where(word, 2.0, 1.0)
    doubled = replace(effects, estimate=effects.estimate * factor, error=effects.error * factor)
    return fit, replace(doubled, medians=np.where(word, effects.means - doubled.estimate, effects.medians))


@dataclass(frozen=True)
class Estimated:
    """Effects of all cells on all targets, which may come from several regressions.

    Attributes:
        effects: of all cells.
        parts: regressions, their effects, and which cells of which targets come from them, bool [cells, targets].
    """

    effects: Effects
    parts: list[tuple[Fit, Effects, np.ndarray]]

    def largest_t(self, tested: np.ndarray, seed: int) -> np.ndarray:
        """Return the largest t statistic of all tested cells in draws without any effect, see ``bootstrap``.

        The parts have the same pictures and the same signs, so their draws are the same draws.

        Args:
            tested: bool [cells, targets].
            seed: of the random signs.
        """
        drawn = [largest_t(fit, effects, tested & part, seed=seed) for fit, effects, part in self.parts if part.any()]
        return np.maximum.reduce(drawn)


def estimate(asked: Asked, values: np.ndarray, own: Sequence[int | None], planned: int) -> Estimated:
    """Return the effects of all cells, averaged over a target's own object asked for and not asked for.

    The pictures that ask for the object weigh as much as all others together, where their number will suffice for that
    at the planned number of pictures. Effects in the object's own group are averaged over all pictures as they are.

    Args:
        asked: what the captions ask for.
        values: of the targets, float [pictures, targets].
        own: place of every target's own object among the concepts, None where there is none.
        planned: number of pictures at the last look.

    Returns:
        The effects; NaN at a look that comes too early for the weights.
    """
    fit, base = concept_effects(asked, values)
    effects, taken = base, np.ones(base.estimate.shape, dtype=bool)
    parts: list[tuple[Fit, Effects, np.ndarray]] = []
    for target, place in enumerate(own):
        if place is None:
            continue
        mine = asked.named[:, place]
        share = float(mine.mean())
        if planned * 4 * share * (1 - share) < LEAST_EFFECTIVE:
            continue
        cells = np.zeros(taken.shape, dtype=bool)
        cells[:, target] = base.groups != base.groups[asked.places[place]]
        taken &= ~cells
        weights = np.where(mine, 0.5 / max(share, 1e-9), 0.5 / max(1 - share, 1e-9))
        if effective_pictures(weights) < LEAST_EFFECTIVE:
            effects = _with(effects, cells, None)
            continue
        one, part = concept_effects(asked, values[:, [target]], weights)
        wide = _spread(part, target, len(own))
        effects = _with(effects, cells, wide)
        parts.append((_of(one, target, len(own)), wide, cells))
    return Estimated(effects, [(fit, base, taken), *parts])


def _spread(part: Effects, target: int, targets: int) -> Effects:
    """Return the effects on one target as effects on all, NaN for the others."""

    def wide(array: np.ndarray) -> np.ndarray:
        found = np.full((len(array), targets), np.nan)
        found[:, target] = array[:, 0]
        return found

    return _changed(part, wide, part)


def _of(fit: Fit, target: int, targets: int) -> Fit:
    residuals = np.zeros((len(fit.residuals), targets))
    residuals[:, target] = fit.residuals[:, 0]
    return replace(fit, residuals=residuals)


def _with(effects: Effects, cells: np.ndarray, other: Effects | None) -> Effects:
    """Return effects with some cells from others, or without an estimate."""

    def joined(array: np.ndarray, taken: np.ndarray | float = np.nan) -> np.ndarray:
        return np.asarray(np.where(cells, taken, array))

    return _changed(effects, joined, *((effects,) if other is None else (effects, other)))


def _changed(template: Effects, change: Callable[..., np.ndarray], *of: Effects) -> Effects:
    return replace(
        template,
        estimate=change(*(one.estimate for one in of)),
        error=change(*(one.error for one in of)),
        freedom=change(*(one.freedom for one in of)),
        means=change(*(one.means for one in of)),
        medians=change(*(one.medians for one in of)),
        middle=change(*(one.middle for one in of)),
    )


def judge(asked: Asked, estimated: Estimated, rule: Rule, spent: float, earlier: np.ndarray | None = None) -> Judged:
    """Return which concepts are findings at one look.

    Args:
        asked: what the captions ask for.
        estimated: effects of all cells.
        rule: of the tests.
        spent: level of the tests at this look.
        earlier: what was found at the looks before, int [concepts, targets].
    """
    effects, places = estimated.effects, asked.places
    family = np.zeros(effects.estimate.shape, dtype=bool)
    family[places] = True
    tests = one_sided_tests(effects, rule.delta, "fdr" if rule.control == "family" else rule.control, family)
    if rule.control == "family":
        largest = estimated.largest_t(tests.tested, rule.seed)
        above, below = ((sign * effects.estimate - rule.delta) / effects.error for sign in (1, -1))
        tested = tests.tested
        adjusted = (family_adjusted(np.where(tested, t, np.nan), largest) for t in (above, below))
        tests = OneSided(tests.above, tests.below, *adjusted)
    before = None
    if earlier is not None:
        before = np.zeros(effects.estimate.shape, dtype=np.int64)
        before[places] = earlier
    found = findings(tests, spent, before)
    low, high = reported_interval(effects, found, tests.tested, rule.level)
    names = classify(effects.estimate, low, high, found, tests.tested, rule.delta)
    up = effects.estimate >= 0
    p = np.where(up, tests.above, tests.below)
    adjusted_p = np.where(up, tests.adjusted_above, tests.adjusted_below)
    return Judged(
        estimate=effects.estimate[places],
        low=low[places],
        high=high[places],
        p=p[places],
        adjusted=adjusted_p[places],
        found=found[places],
        names=names[places],
        tested=tests.tested[places],
        effects=effects,
        level=rule.level,
    )
