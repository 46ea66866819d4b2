"""From effects with errors to findings: two one-sided tests a cell, looks whose levels add up, and a cell's name."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.stats.bootstrap import draws_for, family_adjusted, largest_t
from diffexplain_fast.stats.distributions import beside_rounding, t_above
from diffexplain_fast.stats.effects import Effects, interval
from diffexplain_fast.stats.multiplicity import benjamini_hochberg, benjamini_yekutieli, holm, selected_level
from diffexplain_fast.stats.regression import LEAST_PICTURES, Fit

Control = Literal["fdr", "any", "family"]
Name = Literal["finding", "none", "small", "undecided"]
_LOOKS = ((96, 0.1), (192, 0.2), (384, 0.3), (768, 0.4))


class Look(NamedTuple):
    """A number of pictures at which all cells are tested, and the level that is spent there."""

    pictures: int
    level: float


def looks(pictures: int, level: float = 0.05, kept: float = 0.0) -> tuple[Look, ...]:
    """Return the looks of an audit that grows up to a limit of pictures.

    They are at 96, 192, 384 and 768 pictures and spend .1, .2, .3 and .4 of the level; the last look that the limit
    allows is moved to the limit, and spends all that is left. The false discovery rate of a rule that controls it at
    the level of each look is, for whatever look the audit ends with, at most the sum of the levels; so is the rate of
    any finding where none is true. It is the rate of one limit: an audit that is asked for again with a larger limit,
    because of its result, is another audit, with a level of its own.

    Args:
        pictures: the limit, at least 1.
        level: of all looks together, in (0, 1).
        kept: share, in [0, 1), of what is left for the last look that is kept for tests after it.

    Raises:
        ValueError: an argument out of its range.
    """
    if pictures < 1:
        raise wrong_value("pictures", "at least 1", pictures)
    if not 0 < level < 1:
        raise wrong_value("level", "above 0 and below 1", level)
    before = [Look(at, round(share * level, 12)) for at, share in _LOOKS if at <= pictures][:-1]
    left = level - sum(look.level for look in before)
    return (*before, Look(pictures, round((1 - kept) * left, 12)))


@dataclass(frozen=True)
class OneSided:
    """Two one-sided tests a cell: of "the effect is above delta" and of "the effect is below -delta".

    Attributes:
        above, below: float [cells, outcomes]: p-values; NaN where the cell is not tested.
        adjusted_above, adjusted_below: the same, adjusted over both directions and all cells and outcomes.
    """

    above: np.ndarray
    below: np.ndarray
    adjusted_above: np.ndarray
    adjusted_below: np.ndarray

    @property
    def tested(self) -> np.ndarray:
        """Cells that are tested, bool [cells, outcomes]."""
        return np.isfinite(self.above)

    def towards(self, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return p-values and adjusted p-values of the tests in the direction of estimates, float [cells, outcomes]."""
        up = estimate >= 0
        return np.where(up, self.above, self.below), np.where(up, self.adjusted_above, self.adjusted_below)


def one_sided_tests(
    effects: Effects,
    delta: float = 0.5,
    control: Control = "fdr",
    family: np.ndarray | None = None,
    fit: Fit | None = None,
    seed: int = 0,
    level: float = 0.05,
) -> OneSided:
    """Return both tests of every cell against the minimal effect.

    Args:
        effects: the cells; those that fewer than 12 pictures name are not tested. An error is at least what rounding
            leaves of the largest mean of an outcome.
        delta: minimal effect, 0 or above, in the unit of the outcomes.
        control: "fdr", the rate of false ones among the findings (Benjamini and Hochberg); "any", the same under any
            dependence (Benjamini and Yekutieli, which is e-BH on their p-values, see ``e_values``); "family", any
            false finding at all: the largest t by wild bootstrap where the effects are those of a regression and the
            level asks for at most 19,999 draws, else Holm's adjustment of p-values of ``surest_freedom``. The p-values
            that are returned beside the adjusted ones are the same for every control.
        family: bool [cells, outcomes]: cells to be tested together; None for all.
        fit: the regression whose effects these are, for ``control="family"``; None where there is none, or some of
            the effects are averaged or changed.
        seed: of the bootstrap.
        level: at which adjusted p-values will be compared, in (0, 1): how many draws the bootstrap needs.

    Raises:
        ValueError: an argument out of its range.

    Source: D. J. Schuirmann, "A comparison of the two one-sided tests procedure and the power approach", Journal of
    Pharmacokinetics and Biopharmaceutics 15 (1987), turned round: effects beyond +-delta instead of inside.
    """
    if delta < 0:
        raise wrong_value("delta", "0 or above", delta)
    tested = np.isfinite(effects.error) & (effects.pictures >= LEAST_PICTURES)[:, None]
    tested &= True if family is None else family
    size = np.abs(np.where(np.isfinite(effects.means), effects.means, 0)).max(0, initial=0)
    error = np.where(tested, beside_rounding(effects.error, size), np.nan)
    statistics = np.stack([(effects.estimate - delta) / error, (-effects.estimate - delta) / error])
    p = t_above(statistics, effects.freedom)
    if control == "fdr":
        adjusted = benjamini_hochberg(p)
    elif control == "any":
        adjusted = benjamini_yekutieli(p)
    elif control == "family":
        draws = draws_for(level)
        if fit is None or draws is None:
            adjusted = holm(t_above(statistics, effects.surest_freedom))
        else:
            adjusted = family_adjusted(statistics, largest_t(fit, effects, tested, draws, seed))
    else:
        raise wrong_value("control", '"fdr", "any" or "family"', control)
    return OneSided(p[0], p[1], adjusted[0], adjusted[1])


def findings(tests: OneSided, level: float, earlier: np.ndarray | None = None) -> np.ndarray:
    """Return what is found at a look: 1 above delta, -1 below -delta, 0 not found, int [cells, outcomes].

    Args:
        tests: of the look.
        level: that the look spends.
        earlier: what was found at the looks before; a finding stays.
    """
    found = (tests.adjusted_above <= level).astype(np.int64) - (tests.adjusted_below <= level)
    return found if earlier is None else np.where(earlier != 0, earlier, found)


def reported_interval(
    effects: Effects, found: np.ndarray, tested: np.ndarray, level: float = 0.05
) -> tuple[np.ndarray, np.ndarray]:
    """Return the intervals of a report: selection-adjusted for findings, plain for all other cells.

    Args:
        effects: the cells.
        found: int [cells, outcomes], from ``findings``.
        tested: bool [cells, outcomes].
        level: false coverage rate of the findings, and error of each other interval.
    """
    adjusted = selected_level(found != 0, tested, level)
    return interval(effects.estimate, effects.error, effects.freedom, np.where(found != 0, adjusted, level))


def classify(
    estimate: np.ndarray, low: np.ndarray, high: np.ndarray, found: np.ndarray, tested: np.ndarray, delta: float = 0.5
) -> np.ndarray:
    """Return a name for every cell, the first that is true.

    - "finding": found.
    - "none": the interval lies inside +-2 delta; the effect, if there is one, is not a large one.
    - "small": the interval leaves out 0, and the estimate lies inside +-2 delta: there is an effect, and neither that
      it is above delta nor that it is below 2 delta is shown.
    - "undecided": all else, and every cell that was not tested.

    Args:
        estimate, low, high: float [cells, outcomes], from ``against_median`` and ``reported_interval``.
        found: int [cells, outcomes], from ``findings``.
        tested: bool [cells, outcomes].
        delta: minimal effect.

    Returns:
        str [cells, outcomes].
    """
    inside = (low > -2 * delta) & (high < 2 * delta)
    small = ((low > 0) | (high < 0)) & (np.abs(estimate) < 2 * delta)
    return np.select([found != 0, ~tested, inside, small], ["finding", "undecided", "none", "small"], "undecided")
