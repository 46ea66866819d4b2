"""The cells of a trial: effects of everything that captions ask for, and which of them are findings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from diffexplain_fast.stats.adjusting import other_columns, pairs_of_values
from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.averaging import Average, averaged
from diffexplain_fast.stats.coding import cells_of
from diffexplain_fast.stats.decisions import Control, Look, classify, findings, one_sided_tests, reported_interval
from diffexplain_fast.stats.effects import Effects, against_median, joined
from diffexplain_fast.stats.regression import Fit, least_squares

_LEAST_FOR_PAIRS = 72
"""Pictures below which no pairs are predicted: two values of groups of six are then together in two pictures."""
_LEAST_SAID = 8
"""Pictures of a target's own object that ask for a free word, below which its effect is that of all pictures."""


class Rule(NamedTuple):
    """When a cell is a finding.

    Attributes:
        looks: numbers of pictures at which cells are tested, and the levels that are spent there.
        delta: minimal effect.
        level: error of the intervals.
        control: of false findings; see ``one_sided_tests``.
        seed: of the bootstrap.
        own_level: what is spent after the last look, where more pictures of own objects are drawn.
        shown_level: what is spent on effects of showing; None for as much as at the last look.
    """

    looks: Sequence[Look]
    delta: float
    level: float
    control: Control
    seed: int
    own_level: float = 0.0
    shown_level: float | None = None

    @property
    def shown(self) -> float:
        """What is spent on effects of showing."""
        return self.looks[-1].level if self.shown_level is None else self.shown_level


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
        words_p: probability that the words of a value differ as much in their effects if they act through the value
            only; NaN where it is not tested, None where none is.
        disagree: bool: whether they differ, adjusted over all tests.
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
    words_p: np.ndarray | None = None
    disagree: np.ndarray | None = None

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


def concept_effects(asked: Asked, outcomes: np.ndarray) -> tuple[Fit, Effects]:
    """Return the regression of outcomes on what captions ask for, and the effects of all cells.

    A free word is either there or not: its effect is against its absence, which is twice that against the median of
    the two.

    Args:
        asked: what the captions ask for.
        outcomes: float [pictures, outcomes].
    """
    fit = least_squares(asked.design, asked.levels, outcomes, asked.weights)
    effects = against_median(fit)
    word = (effects.groups >= asked.groups)[:, None]
    factor = np.where(word, 2.0, 1.0)
    doubled = replace(effects, estimate=effects.estimate * factor, error=effects.error * factor)
    return fit, replace(doubled, medians=np.where(word, effects.means - doubled.estimate, effects.medians))


@dataclass(frozen=True)
class Estimated:
    """Effects of all cells on all targets.

    Attributes:
        effects: of all cells, averaged over the own object asked for and not asked for.
        fit: the regression over all pictures as they are whose effects these are; None where some are averaged, are
            those of showing, or of a difference of two trials.
    """

    effects: Effects
    fit: Fit | None


def estimate(
    asked: Asked, values: np.ndarray, own: Sequence[int | None], planned: int, whole: Asked | None = None
) -> Estimated:
    """Return the effects of all cells, averaged over a target's own object asked for and not asked for.

    Effects in the object's own group, and of targets without an object among the concepts, are those of all pictures,
    and so are those of free words that hardly any picture of the object asks for.

    Args:
        asked: what the captions ask for.
        values: of the targets, float [pictures, targets].
        own: place of every target's own object among the concepts, None where there is none.
        planned: number of pictures at the last look. Where that is too small for an average, the effects of all
            pictures take its place.
        whole: what the captions of all planned pictures ask for, which decides at every look alike which free words are
            asked for enough; None for ``asked``.

    Returns:
        The effects; NaN at a look that comes too early for an average.
    """
    fit, base = concept_effects(asked, without_pairs(asked, values))
    effects, whole = base, asked if whole is None else whole
    for place in dict.fromkeys(place for place in own if place is not None):
        mine, group = asked.named[:, place], int(asked.columns[place])
        least = asked.least(group)
        if planned * mine.mean() < least:
            continue
        targets = [target for target, its in enumerate(own) if its == place]
        cells = (base.groups != group) & _said_enough(whole, whole.named[:, place])
        found: list[Average | None] = [None] * len(targets)
        if mine.sum() >= least:
            outcomes, rest = values[:, targets], asked.part(~mine)
            large = concept_effects(rest, without_pairs(rest, outcomes[~mine]))[1]
            small = one_by_one(asked.part(mine), outcomes[mine])
            found = [*averaged(small, large, cells & _said_enough(asked, mine))]
        for target, average in zip(targets, found, strict=True):
            effects = with_average(effects, target, cells, average)
    return Estimated(effects, fit if effects is base else None)


def _said_enough(asked: Asked, mine: np.ndarray) -> np.ndarray:
    """Return whether a cell is of a group, or of a free word that enough of some pictures ask for, bool [cells]."""
    columns = cells_of(asked.levels)[0]
    return np.asarray((columns < asked.groups) | ((asked.design[mine] == 1).sum(0)[columns] >= _LEAST_SAID))


def one_by_one(asked: Asked, outcomes: np.ndarray) -> Effects:
    """Return the effects in few pictures: those of each column on its own, without what the other columns add.

    A regression on all columns at once spends a picture on every value of every other group.

    Args:
        asked: what the captions of these pictures ask for.
        outcomes: float [pictures, outcomes].
    """
    others = other_columns(asked.design, asked.levels, outcomes, asked.weights)
    alone = []
    for column, (count, other) in enumerate(zip(asked.levels, others, strict=True)):
        own = Asked(asked.design[:, [column]], (count,), int(column < asked.groups), asked.weights)
        alone.append(concept_effects(own, outcomes - other)[1])
    return joined(alone)


def without_pairs(asked: Asked, outcomes: np.ndarray) -> np.ndarray:
    """Return outcomes [pictures, outcomes] without what pairs of values add: noise in the effect of a single value."""
    if len(outcomes) < _LEAST_FOR_PAIRS:
        return outcomes
    return outcomes - pairs_of_values(asked.design, asked.levels, asked.groups, outcomes, asked.weights)


def with_average(effects: Effects, target: int, cells: np.ndarray, found: Average | None) -> Effects:
    """Return the effects with some cells of a target from an average, or without an estimate for ``found=None``."""
    estimate, error, freedom = effects.estimate.copy(), effects.error.copy(), effects.freedom.copy()
    estimate[cells, target] = np.nan if found is None else found.estimate[cells]
    error[cells, target] = np.nan if found is None else found.error[cells]
    freedom[cells, target] = np.nan if found is None else found.freedom[cells]
    fewest = effects.least_freedom.copy()
    fewest[cells, target] = np.inf if found is None else found.fewest[cells]
    return replace(effects, estimate=estimate, error=error, freedom=freedom, fewest=fewest)


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
    tests = one_sided_tests(effects, rule.delta, rule.control, family, estimated.fit, rule.seed, spent)
    before = None
    if earlier is not None:
        before = np.zeros(effects.estimate.shape, dtype=np.int64)
        before[places] = earlier
    found = findings(tests, spent, before)
    low, high = reported_interval(effects, found, tests.tested, rule.level)
    names = classify(effects.estimate, low, high, found, tests.tested, rule.delta)
    p, adjusted_p = tests.towards(effects.estimate)
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
