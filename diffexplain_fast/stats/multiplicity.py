"""Many tests at once: adjusted p-values, e-values, and intervals of what was selected."""

from collections.abc import Callable

import numpy as np

from diffexplain_fast.errors import wrong_value


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Return adjusted p-values: rejecting those at or below q keeps the false discovery rate at or below q.

    Holds for independent and for positively dependent p-values.

    Args:
        p: float, any shape; NaN is no test, and stays NaN.

    Source: Y. Benjamini and Y. Hochberg, "Controlling the false discovery rate", JRSS B 57 (1995).
    """
    return _stepped(p, 1.0)


def benjamini_yekutieli(p: np.ndarray) -> np.ndarray:
    """Return adjusted p-values as ``benjamini_hochberg``, times 1 + 1/2 + ... + 1/m: holds under any dependence.

    Source: Y. Benjamini and D. Yekutieli, "The control of the false discovery rate in multiple testing under
    dependency", Annals of Statistics 29 (2001).
    """
    return _stepped(p, float((1 / np.arange(1, (~np.isnan(p)).sum() + 1)).sum()))


def holm(p: np.ndarray) -> np.ndarray:
    """Return adjusted p-values: rejecting those at or below a level makes any false rejection at most so probable.

    Holds under any dependence.

    Args:
        p: as in ``benjamini_hochberg``.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6
        (1979).
    """
    return _in_order(p, lambda sorted_p: np.maximum.accumulate(sorted_p * np.arange(len(sorted_p), 0, -1)))


def _stepped(p: np.ndarray, factor: float) -> np.ndarray:
    def adjusted(sorted_p: np.ndarray) -> np.ndarray:
        raw = sorted_p * len(sorted_p) * factor / np.arange(1, len(sorted_p) + 1)
        return np.minimum.accumulate(raw[::-1])[::-1]

    return _in_order(p, adjusted)


def _in_order(p: np.ndarray, adjust: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return p-values of any shape that are adjusted together, from the smallest to the largest; 1 at most."""
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.size, np.nan)
    tested = np.flatnonzero(~np.isnan(p.ravel()))
    order = tested[np.argsort(p.ravel()[tested], kind="stable")]
    adjusted[order] = np.minimum(adjust(p.ravel()[order]), 1)
    return adjusted.reshape(p.shape)


def e_values(p: np.ndarray, level: float) -> np.ndarray:
    """Return p-values as e-values: not negative, and with a mean of at most one where the tested claim is false.

    e = m / (level ceil(p m h / level)) for m tests and h = 1 + 1/2 + ... + 1/m, and 0 where that ceiling is above m.
    The mean of e over a uniform p is one. With these e-values, e-BH at this level rejects what Benjamini and Yekutieli
    reject; e-values of several looks may be averaged first, whatever decided to look again.

    Args:
        p: float, any shape; NaN is no test, and stays NaN.
        level: at which ``e_benjamini_hochberg`` will be asked, in (0, 1).

    Source: R. Wang and A. Ramdas, "False discovery rate control with e-values", JRSS B 84 (2022), section 4.
    """
    if not 0 < level < 1:
        raise wrong_value("level", "above 0 and below 1", level)
    p = np.asarray(p, dtype=np.float64)
    count = int((~np.isnan(p)).sum())
    places = np.maximum(np.ceil(p * count * (1 / np.arange(1, count + 1)).sum() / level - 1e-9), 1)
    return np.where(np.isnan(p), np.nan, np.where(places <= count, count / (level * places), 0.0))


def e_benjamini_hochberg(e: np.ndarray) -> np.ndarray:
    """Return adjusted values: rejecting those at or below q keeps the false discovery rate at or below q.

    Holds under any dependence.

    Args:
        e: e-values, 0 or above, any shape; NaN is no test, and stays NaN.

    Source: R. Wang and A. Ramdas, "False discovery rate control with e-values", JRSS B 84 (2022).
    """
    with np.errstate(divide="ignore"):
        return _stepped(1 / np.asarray(e, dtype=np.float64), 1.0)


def selected_level(found: np.ndarray, tested: np.ndarray, level: float = 0.05) -> float:
    """Return the level of intervals of findings that keeps the false coverage rate at or below ``level``.

    R of m cells were found: each gets an interval that misses with probability R level / m.

    Args:
        found: bool, any shape: cells that are reported because they were found.
        tested: bool, same shape: cells that could have been found.
        level: false coverage rate, in (0, 1).

    Returns:
        The level; ``level`` itself where nothing was found.

    Source: Y. Benjamini and D. Yekutieli, "False discovery rate-adjusted multiple confidence intervals for selected
    parameters", JASA 100 (2005).
    """
    count, cells = int((found & tested).sum()), int(tested.sum())
    return level * count / cells if count else level
