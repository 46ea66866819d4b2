"""Figures of edits against the truth, each with a 95 % interval over scenes where it is more than a share."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from diffexplain_fast.stats.intervals import wilson_interval

MATTERS, NOTHING_TRUE = 0.5, 0.1
"""Sizes of a true effect in logits above which it matters, and below which it is as good as none."""
_FEWEST = 3
"""Scenes without which a mean effect of a concept is no global one."""
_DRAWS, _TOP, _NEAR = 500, 3, 0.8


class Panel(NamedTuple):
    """Effects of the edits of one scene on every class of every shipped classifier.

    Attributes:
        concepts: [edits].
        truth: [edits, classes], of pictures as they truly are.
        found: [edits, classes], of edited pictures.
        ceiling: [edits, classes], of the true pictures through the autoencoder.
        verified: bool [edits].
        asked: classes that a user would ask for: the predicted and the shortcut classes.
    """

    concepts: list[str]
    truth: np.ndarray
    found: np.ndarray
    ceiling: np.ndarray
    verified: np.ndarray
    asked: list[int]


def share(hits: Sequence[bool]) -> dict[str, Any]:
    """Return a share with its number and Wilson's interval."""
    low, high = wilson_interval(sum(hits), len(hits))
    return {"share": fmean(hits), "low": low, "high": high, "n": len(hits)}


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Return the rank correlation; ties, which measured effects do not have, are broken by place."""
    ranks = [values.argsort(kind="stable").argsort(kind="stable") for values in (first, second)]
    return float(np.corrcoef(ranks)[0, 1])


def agreement(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Return how well effects [n] agree with the truth [n], n at least 3."""
    return {
        "n": len(truth),
        "spearman": spearman(truth, found),
        "pearson": float(np.corrcoef(truth, found)[0, 1]),
        "slope": float((truth * found).sum() / (truth**2).sum()),
        "sign": float(((truth > 0) == (found > 0)).mean()),
    }


def panel_figures(panels: Sequence[Panel]) -> dict[str, Any]:
    """Return local and global figures of effects on all classes, and the same divided by those of the ceiling."""

    def both(figure: Callable[[Sequence[Panel], str], float]) -> dict[str, Any]:
        def figures(some: Sequence[Panel]) -> list[float]:
            found, ceiling = figure(some, "found"), figure(some, "ceiling")
            return [found, ceiling, found / ceiling]

        rng = np.random.default_rng(0)
        values, draws = figures(panels), []
        for _ in range(_DRAWS if len(panels) > 2 else 0):
            draws.append(figures([panels[i] for i in rng.integers(0, len(panels), len(panels))]))
        ends = np.nanquantile(np.array(draws), [0.025, 0.975], axis=0).T.tolist() if draws else [None] * 3
        names = ("found", "ceiling", "of the ceiling")
        return {name: {"value": value, "interval": end} for name, value, end in zip(names, values, ends, strict=True)}

    return {
        "global spearman": both(_global),
        "local spearman": both(_local),
        f"local top {_TOP}, tolerant": both(_top),
        "over .5: spearman": both(lambda some, name: _pooled(some, name)["spearman"]),
        "over .5: pearson": both(lambda some, name: _pooled(some, name)["pearson"]),
        "over .5: slope": both(lambda some, name: _pooled(some, name)["slope"]),
        "over .5: sign": both(lambda some, name: _pooled(some, name)["sign"]),
    }


def null_figures(edits: Sequence[Mapping[str, Any]], placebos: Sequence[Mapping[str, list[float]]]) -> dict[str, Any]:
    """Return sizes of placebos, how often intervals hold the truth, and how often nothing is called something."""
    by_editor: dict[str, list[float]] = {}
    for found in placebos:
        for editor, values in found.items():
            by_editor.setdefault(editor, []).extend(abs(value) for value in values)
    everything = [value for values in by_editor.values() for value in values]
    large = [edit for edit in edits if abs(edit["truth"]) > MATTERS]
    none = [edit for edit in edits if abs(edit["truth"]) < NOTHING_TRUE]
    alarms = [not edit["low"] <= 0 <= edit["high"] for edit in none]
    wrong = [alarm and not _holds(edit) for alarm, edit in zip(alarms, none, strict=True)]
    return {
        "95 % of placebos below": float(np.quantile(everything, 0.95, method="lower")),
        "by editor": {name: float(np.quantile(values, 0.95, method="lower")) for name, values in by_editor.items()},
        "placebos": len(everything),
        "intervals that hold the truth": share([_holds(edit) for edit in edits]),
        "verified intervals that hold the truth": share([_holds(edit) for edit in edits if edit["verified"]]),
        "nothing called something": share(alarms) if none else None,
        "nothing called something, and not the little that it is": share(wrong) if none else None,
        "effects over .5 told from 0": share([not edit["low"] <= 0 <= edit["high"] for edit in large])
        if large
        else None,
        "median half-width": float(np.median([(edit["high"] - edit["low"]) / 2 for edit in edits])),
    }


def _holds(edit: Mapping[str, Any]) -> bool:
    return bool(edit["low"] <= edit["truth"] <= edit["high"])


def _pooled(panels: Sequence[Panel], name: str) -> dict[str, float]:
    """Return the agreement of local effects that matter."""
    truth = np.concatenate([panel.truth[:, panel.asked].ravel() for panel in panels])
    found = np.concatenate([getattr(panel, name)[:, panel.asked].ravel() for panel in panels])
    return agreement(truth[abs(truth) > MATTERS], found[abs(truth) > MATTERS])


def _local(panels: Sequence[Panel], name: str) -> float:
    return fmean(spearman(panel.truth[:, i], getattr(panel, name)[:, i]) for panel in panels for i in panel.asked)


def _top(panels: Sequence[Panel], name: str) -> float:
    hits = []
    for panel in panels:
        for i in panel.asked:
            truth, found = abs(panel.truth[:, i]), abs(getattr(panel, name)[:, i])
            hits.append((truth[found.argsort()[-_TOP:]] >= _NEAR * np.sort(truth)[-_TOP]).mean())
    return fmean(hits)


def _global(panels: Sequence[Panel], name: str) -> float:
    """Return the rank correlation of mean effects, over concepts and classes."""
    rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for panel in panels:
        for i, concept in enumerate(panel.concepts):
            rows.setdefault(concept, []).append((panel.truth[i], getattr(panel, name)[i]))
    means = [np.mean(some, axis=0) for some in rows.values() if len(some) >= _FEWEST]
    if not means:
        return float("nan")
    truth, found = np.stack(means, 1).reshape(2, -1)
    return spearman(truth, found)
