"""How well a concept describes a unit: correlation, and the two scores of CoSy."""

import importlib

import numpy as np

_ROUNDED = 1e-12
"""Spread in units of the largest value up to which a unit is constant: means of equal numbers are rounded."""


def deviation(values: np.ndarray) -> np.ndarray:
    """Return the standard deviation of every outcome [outcomes]; exactly 0 where there is nothing but rounding.

    Args:
        values: float [pictures, outcomes], at least one picture.
    """
    found: np.ndarray = values.std(0)
    least = max(_ROUNDED, 4 * float(np.finfo(found.dtype).eps))
    return np.where(found > least * np.abs(values).max(0), found, 0.0)


def correlation(named: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of every concept with every outcome, float [concepts, outcomes]; NaN without spread.

    It falls when some pictures lose a concept's label and when others get it by mistake: the two sanity checks for
    scores of descriptions of units, of which ``cosy_scores`` passes one only.

    Args:
        named: bool [pictures, concepts].
        values: float [pictures, outcomes].

    Source: T. Oikarinen, G. Yan and T.-W. Weng, "Evaluating neuron explanations: a unified framework with sanity
    checks", ICML 2025.
    """
    one, two = (part - part.mean(0) for part in (named.astype(np.float64), values))
    size = np.sqrt((one**2).sum(0))[:, None] * np.sqrt((two**2).sum(0))[None]
    size = np.where(deviation(values) > 0, size, 0)
    return np.asarray(np.where(size > 0, one.T @ two / np.where(size > 0, size, 1), np.nan))


def cosy_scores(named: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Return CoSy's scores of one concept for one unit: AUC and MAD.

    AUC is the probability that a picture with the concept activates the unit more than one without it. MAD is the
    difference of the mean activations divided by the standard deviation without the concept. (CoSy draws the pictures
    with the concept from a text alone; here they are pictures of the pool.)

    Args:
        named: whether a picture asks for the concept, bool [pictures].
        values: float [pictures].

    Returns:
        AUC and MAD; NaN where all pictures or none ask for the concept, or where the unit is constant without it.

    Source: L. Kopf et al., "CoSy: evaluating textual explanations of neurons", NeurIPS 2024, equations 2 and 3.
    """
    inside, outside = values[named], values[~named]
    if not len(inside) or not len(outside):
        return float("nan"), float("nan")
    u = importlib.import_module("scipy.stats").mannwhitneyu(inside, outside).statistic
    spread = float(deviation(outside[:, None])[0])
    mad = (inside.mean() - outside.mean()) / spread if spread > 0 else float("nan")
    return float(u / (len(inside) * len(outside))), float(mad)
