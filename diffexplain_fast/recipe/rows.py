"""The rows of a truth: levels, effects against the median of a group, and their intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diffexplain_fast.recipe.levels import ROWS
from diffexplain_fast.records import JsonObject
from diffexplain_fast.results.truth import role_of_effect
from diffexplain_fast.stats.intervals import student_quantile, wilson_interval
from diffexplain_fast.tinyworld.words import ABSENCE

_DRAWS = 400
_DIGITS = 4


class Sample(NamedTuple):
    """What one class said about the counterfactual scenes of N layouts, R values each.

    Attributes:
        logits: [N, R].
        hits: [N, R], whether the class was the answer.
        own: [N], whether the layout's object is the class's own.
    """

    logits: np.ndarray
    hits: np.ndarray
    own: np.ndarray


def columns_of(name: str) -> list[int]:
    """Return which of ``ROWS`` are about an attribute."""
    return [i for i, (about, _) in enumerate(ROWS) if about == name]


def attribute_rows(sample: Sample, label: str, names: Sequence[str]) -> list[JsonObject]:
    """Return one row per value of the attributes, the strongest effect first; see ``truth.measure_truth``.

    The interval is the effect plus and minus Student's quantile times a deviation that comes from layouts drawn anew
    among those with and those without the own object, so that it knows that the median is measured too.
    """
    rows = []
    for name in names:
        columns = columns_of(name)
        effects, halves = _against_median(sample, name, columns)
        for place, column in enumerate(columns):
            effect, half = float(effects[place]), float(halves[place])
            attribute = ":".join(ROWS[column])
            row = {"attribute": attribute, "effect": _rounded(effect), "interval": _around(effect, half)}
            ends = effect - half, effect + half
            row["role"] = role_of_effect(effect, ends, own=attribute == f"object:{label}")
            rows.append(row | {"levels": _levels(sample, column, label)})
    return sorted(rows, key=lambda row: -row["effect"])


def unnamed_rows(sample: Sample, names: Sequence[str]) -> list[JsonObject]:
    """Return one row per value of the attributes except their absence, with which each is compared."""
    rows = []
    for name in names:
        *values, absent = columns_of(name)
        assert ROWS[absent][1] == ABSENCE[name]
        for column in values:
            effect, interval = difference(sample.logits[:, column] - sample.logits[:, absent], sample.own)
            row = {"cue": ":".join(ROWS[column]), "effect": effect, "interval": interval}
            rows.append(row | {"levels": _levels(sample, column, ""), "absent": _levels(sample, absent, "")})
    return sorted(rows, key=lambda row: -row["effect"])


def difference(values: np.ndarray, own: np.ndarray) -> tuple[float, list[float]]:
    """Return the mean of one number per layout, own object present and absent in equal parts, and its interval."""
    effect, half = _mean(values, _parts(own))
    return _rounded(effect), _around(effect, half)


def _parts(own: np.ndarray) -> list[np.ndarray]:
    """The layouts with and those without the own object."""
    return [np.flatnonzero(own), np.flatnonzero(~own)]


def _mean(values: np.ndarray, parts: Sequence[np.ndarray]) -> tuple[float, float]:
    """The mean of values [N], every part of them counting the same, and half of its 95 % interval."""
    mean = sum(values[rows].mean() for rows in parts) / len(parts)
    variance = sum(values[rows].var(ddof=1) / len(rows) for rows in parts) / len(parts) ** 2
    least = min(len(rows) for rows in parts)
    return float(mean), student_quantile(0.975, least - 1) * math.sqrt(variance)


def _against_median(sample: Sample, name: str, columns: list[int]) -> tuple[np.ndarray, np.ndarray]:
    values = sample.logits[:, columns]
    # A scene with another object is another scene, so the rows about objects are not split by the object.
    parts = [np.arange(len(values))] if name == "object" else _parts(sample.own)
    rng = np.random.default_rng(0)
    level = np.mean([values[rows].mean(0) for rows in parts], axis=0)
    drawn = np.mean(
        [rng.multinomial(len(rows), [1 / len(rows)] * len(rows), _DRAWS) @ values[rows] / len(rows) for rows in parts],
        axis=0,
    )
    deviation = (drawn - np.median(drawn, 1, keepdims=True)).std(0, ddof=1)
    least = min(len(rows) for rows in parts)
    scale = student_quantile(0.975, least - 1) * math.sqrt(least / (least - 1))
    return level - np.median(level), scale * deviation


def _levels(sample: Sample, column: int, label: str) -> JsonObject:
    """The mean logit and the share of answers under one value, with and without the class's own object."""
    name, value = ROWS[column]
    every = np.arange(len(sample.own))
    if name == "object":
        parts = {"with" if value == label else "without": every}
    else:
        parts = {"with": np.flatnonzero(sample.own), "without": np.flatnonzero(~sample.own)}
    return {part: _level(sample.logits[rows, column], sample.hits[rows, column]) for part, rows in parts.items()}


def _level(logits: np.ndarray, hits: np.ndarray) -> JsonObject:
    mean, half = _mean(logits, [np.arange(len(logits))])
    share = [_rounded(end) for end in wilson_interval(int(hits.sum()), len(hits))]
    level = {"logit": _rounded(mean), "interval": _around(mean, half)}
    return level | {"share": _rounded(float(hits.mean())), "share_interval": share, "n": len(logits)}


def _around(value: float, half: float) -> list[float]:
    return [_rounded(value - half), _rounded(value + half)]


def _rounded(value: float) -> float:
    return round(value, _DIGITS)
