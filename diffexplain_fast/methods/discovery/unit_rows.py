"""Rows of hidden features: one half of the pictures chooses a feature's concept, the other half measures its effect."""

import math
from collections.abc import Sequence

import numpy as np

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.results.audit_rows import UnitRow
from diffexplain_fast.stats.asked import Asked
from diffexplain_fast.stats.cells import concept_effects
from diffexplain_fast.stats.decisions import findings, one_sided_tests, reported_interval
from diffexplain_fast.stats.unit_scores import correlation, cosy_scores, deviation


def halves(pictures: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the pictures that choose, and of those that measure."""
    places = np.arange(pictures)
    return places[: pictures // 2], places[pictures // 2 :]


def check_features(asked: Asked, minimal_effect: object) -> None:
    """Refuse what can be refused before a classifier is asked.

    Args:
        asked: what the captions of all pictures ask for.
        minimal_effect: in standard deviations of a feature.

    Raises:
        TypeError: a minimal effect that is no number.
        ValueError: a minimal effect below 0 or not finite, or too few pictures for two regressions.
    """
    if not isinstance(minimal_effect, int | float) or isinstance(minimal_effect, bool):
        raise wrong_type("minimal_effect", "a number", minimal_effect)
    if not 0 <= minimal_effect < math.inf:
        raise wrong_value("minimal_effect", "0 or above, finite", minimal_effect)
    pictures = len(asked.design)
    if any(len(half) <= max(asked.terms, asked.part(half).rank) for half in halves(pictures)):
        wanted = f"at least {2 * asked.most_terms + 2} pictures, a half to choose concepts and a half to measure them"
        raise wrong_value("pictures", wanted, pictures)


def feature_rows(
    asked: Asked,
    concepts: Sequence[str],
    values: np.ndarray,
    names: Sequence[str],
    minimal_effect: float,
    level: float,
) -> list[UnitRow]:
    """Return a row for every feature, with the concept that the first half chooses.

    Args:
        asked: what the captions of all pictures ask for.
        concepts: their names.
        values: of the features, float [pictures, features]; one that is constant but for rounding has no effect, and
            a correlation and a MAD of NaN.
        names: of the features.
        minimal_effect: in standard deviations of a feature over all pictures, at least 0.
        level: rate of false findings, and error of the intervals.

    Raises:
        TypeError, ValueError: see ``check_features``.
    """
    check_features(asked, minimal_effect)
    first, second = halves(len(values))
    spread = deviation(values)
    scaled = np.where(spread > 0, values / np.where(spread > 0, spread, 1.0), 0.0)
    chosen = concept_effects(asked.part(first), scaled[first])[1].estimate[asked.places]
    best = np.nan_to_num(np.abs(chosen)).argmax(0)
    effects = concept_effects(asked.part(second), scaled[second])[1]
    family = np.zeros(effects.estimate.shape, dtype=bool)
    family[asked.places[best], np.arange(len(names))] = True
    tests = one_sided_tests(effects, float(minimal_effect), family=family)
    found = findings(tests, level)
    low, high = reported_interval(effects, found, tests.tested, level)
    _, adjusted_p = tests.towards(effects.estimate)
    named = asked.named[second]
    linear, rows = correlation(named, scaled[second]), []
    for column, name in enumerate(names):
        place = best[column]
        cell = asked.places[place], column
        auc, mad = cosy_scores(named[:, place], scaled[second, column])
        rows.append(
            UnitRow(
                unit=column,
                concept=concepts[place],
                effect=float(effects.estimate[cell]),
                low=float(low[cell]),
                high=float(high[cell]),
                adjusted_p=float(adjusted_p[cell]),
                name=name,
                finding=bool(found[cell]),
                chosen_effect=float(chosen[place, column]),
                correlation=float(linear[place, column]),
                auc=auc,
                mad=mad,
            )
        )
    return rows
