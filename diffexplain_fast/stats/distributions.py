"""Student's t and chi-squared, elementwise over arrays, by SciPy, which is imported at first use only."""

import importlib
from types import ModuleType

import numpy as np

Numbers = np.ndarray | float
_ROUNDED = 1e-6
"""Error in units of what is measured, below which nothing but rounding is known: classifiers answer in float32."""


def beside_rounding(error: np.ndarray, size: Numbers) -> np.ndarray:
    """Return standard errors, none below what rounding leaves of numbers that err in nothing else.

    The effects and errors of such numbers are rounding, and a test of their ratio would find anything.

    Args:
        error: float, any shape; NaN stays NaN.
        size: of what is measured, not below 0; broadcast to the shape of ``error``.
    """
    return np.maximum(error, np.maximum(_ROUNDED * np.asarray(size), 1e-300))


def _special() -> ModuleType:
    return importlib.import_module("scipy.special")


def t_above(t: Numbers, freedom: Numbers) -> np.ndarray:
    """Return the probability that Student's t with so many degrees of freedom is above ``t``; NaN stays NaN."""
    return np.asarray(_special().stdtr(freedom, -np.asarray(t)))


def t_quantile(p: Numbers, freedom: Numbers) -> np.ndarray:
    """Return the quantile of Student's t at the probability ``p``, between 0 and 1; NaN stays NaN."""
    return np.asarray(_special().stdtrit(freedom, p))


def chi2_above(x: Numbers, freedom: Numbers) -> np.ndarray:
    """Return the probability that chi-squared with so many degrees of freedom is above ``x``; NaN stays NaN."""
    return np.asarray(_special().chdtrc(freedom, x))
