"""Least squares of many outcomes on the values that captions name, with errors that hold in small samples."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.stats.coding import cells_of, check_design, columns, indicators, uniform_over_others

LEAST_PICTURES = 12
"""Pictures a value below which no verdict is given."""
LEAST_EFFECTIVE = 50.0
"""Effective number of re-weighted pictures below which an audit is refused."""
_MOST_LEVERAGE = 1 - 1e-6


@dataclass(frozen=True)
class Fit:
    """Mean outcomes of the cells as linear estimates, ``means = rows.T @ outcomes``, and the residuals behind them.

    An error clustered by picture or donor would add ``rows * residuals`` over a cluster before squaring them.

    Attributes:
        levels: number of values of every group; the cells are all values of the first group, then of the next.
        means: float [cells, outcomes]: mean outcome where the value is named and the other groups are uniform, or
            with weights distributed as the weighted pictures are; NaN for a value that no caption names.
        rows: float [pictures, cells]: weight of a picture's outcome in the mean of a cell.
        residuals: float [pictures, outcomes]: residuals divided by 1 - leverage, as HC3 takes them.
        leverage: float [pictures].
        x, solve: float [pictures, columns] and [columns, pictures]: fitted outcomes are ``x @ solve @ outcomes``.
        pictures: int [cells]: pictures whose captions name the value.
    """

    levels: tuple[int, ...]
    means: np.ndarray
    rows: np.ndarray
    residuals: np.ndarray
    leverage: np.ndarray
    x: np.ndarray
    solve: np.ndarray
    pictures: np.ndarray

    @property
    def groups(self) -> np.ndarray:
        """Group of every cell, int [cells]."""
        return cells_of(self.levels)[0]

    @cached_property
    def spread(self) -> np.ndarray:
        """Covariance of the plain residuals of outcomes with variance 1, float [pictures, pictures]."""
        fitted = self.x @ self.solve
        spread = self.x @ (self.solve @ self.solve.T) @ self.x.T - fitted - fitted.T  # (I - fitted) (I - fitted)'
        spread[np.diag_indices(len(spread))] += 1
        alone = self.leverage > _MOST_LEVERAGE
        spread[alone] = spread[:, alone] = 0  # rounding, which the division by 1 - leverage would make large
        return spread

    @property
    def alone(self) -> np.ndarray:
        """Pictures that no other predicts, bool [pictures], such as the only one of a value.

        The residual is 0 whatever the outcome, so that HC3 takes a contrast that weighs such a picture for too sure.
        """
        return np.asarray(np.abs(self.leverage - 1) < 1 - _MOST_LEVERAGE)

    def of(self, outcomes: Sequence[int]) -> "Fit":
        """Return the regression of some of the outcomes."""
        return replace(self, means=self.means[:, outcomes], residuals=self.residuals[:, outcomes])

    def hc3(self, residuals: np.ndarray) -> np.ndarray:
        """Return residuals divided by 1 - leverage, float [pictures, any]."""
        return residuals / np.maximum(1 - self.leverage, 1 - _MOST_LEVERAGE)[:, None]


def effective_pictures(weights: np.ndarray) -> float:
    """Return the effective number of weighted pictures, (sum of weights)^2 / sum of squared weights.

    Source: L. Kish, "Survey sampling" (1965).
    """
    weights = np.asarray(weights, dtype=np.float64)
    return float(weights.sum() ** 2 / (weights**2).sum())


def check_effective(weights: np.ndarray) -> float:
    """Return the effective number of weighted pictures.

    Raises:
        ValueError: it is below 50, so that a few pictures decide everything.
    """
    found = effective_pictures(weights)
    if found < LEAST_EFFECTIVE:
        wanted = f"an effective number of at least {LEAST_EFFECTIVE:.0f} pictures"
        raise wrong_value("weights", wanted, f"{found:.1f} of {len(weights)}; ask for more pictures")
    return found


def least_squares(
    design: np.ndarray, levels: Sequence[int], outcomes: np.ndarray, weights: np.ndarray | None = None
) -> Fit:
    """Return the regression of outcomes on the named values, one additive term a group.

    The hat matrix is made once for all outcomes.

    Args:
        design: int [pictures, groups], see ``balanced_design``; -1 where a caption leaves the group out.
        levels: number of values of every group.
        outcomes: float [pictures, outcomes]: centred logits, answers as 0 or 1, or any others; finite.
        weights: float [pictures], above 0: re-weights the pictures to another distribution of concepts; None for
            equal weights. A user's weights are for ``check_effective`` first, all pictures together.

    Raises:
        ValueError: an argument of the wrong shape or not finite, or fewer pictures than terms.

    Source: HC3, J. G. MacKinnon and H. White, "Some heteroskedasticity-consistent covariance matrix estimators with
    improved finite sample properties", Journal of Econometrics 29 (1985).
    """
    design = check_design(design, levels)
    outcomes = _checked(outcomes, len(design))
    shares, weights = weights, _checked_weights(weights, len(design))
    x = columns(design, levels)
    solve = np.linalg.pinv(x * np.sqrt(weights)[:, None], rcond=1e-9) * np.sqrt(weights)  # [columns, pictures]
    leverage = np.einsum("ij,ji->i", x, solve)
    if len(x) <= leverage.sum() + 0.5:
        raise wrong_value("design", f"more than {round(leverage.sum())} pictures, one a term", len(x))
    named = indicators(design, levels)
    pictures = named.sum(0).astype(np.int64)
    rows = solve.T @ uniform_over_others(levels, pictures > 0, None if shares is None else weights @ named)
    means = rows.T @ outcomes
    means[pictures == 0] = np.nan
    residuals = (outcomes - x @ (solve @ outcomes)) / np.maximum(1 - leverage, 1 - _MOST_LEVERAGE)[:, None]
    return Fit(tuple(levels), means, rows, residuals, leverage, x, solve, pictures)


def _checked(outcomes: np.ndarray, pictures: int) -> np.ndarray:
    outcomes = np.asarray(outcomes, dtype=np.float64)
    if outcomes.ndim != 2 or len(outcomes) != pictures or not np.isfinite(outcomes).all():
        raise wrong_value("outcomes", f"finite numbers [{pictures}, outcomes]", list(outcomes.shape))
    return outcomes


def _checked_weights(weights: np.ndarray | None, pictures: int) -> np.ndarray:
    if weights is None:
        return np.ones(pictures)
    weights = np.asarray(weights, dtype=np.float64)
    wrong = ~(np.isfinite(weights) & (weights > 0))
    if weights.shape != (pictures,) or wrong.any():
        got = f"{list(weights.shape)}, {int(wrong.sum())} of them not finite or not above 0"
        raise wrong_value("weights", f"{pictures} finite numbers above 0", got)
    return weights


def freedom_of(fit: Fit, contrasts: np.ndarray) -> np.ndarray:
    """Return the degrees of freedom of HC3 errors, by matching two moments of the estimated variance.

    With d_i = (weight of picture i in the contrast / (1 - leverage_i))^2 and S the covariance of the residuals of
    outcomes with equal variance, the estimated variance is a quadratic form with mean sum d_i S_ii and variance
    2 d' (S * S) d; the chi-squared variable with these moments has (sum d_i S_ii)^2 / d' (S * S) d degrees of freedom.

    Args:
        fit: whose pictures the contrasts weigh.
        contrasts: float [pictures, contrasts]: weight of every picture's outcome in the contrast.

    Source: R. M. Bell and D. F. McCaffrey, "Bias reduction in standard errors for linear regression with multi-stage
    samples", Survey Methodology 28 (2002); G. W. Imbens and M. Kolesar, "Robust standard errors in small samples:
    some practical advice", Review of Economics and Statistics 98 (2016).
    """
    d = fit.hc3(contrasts) ** 2
    mean = fit.spread.diagonal() @ d
    return mean**2 / np.maximum((d * (fit.spread**2 @ d)).sum(0), 1e-300)
