"""Accuracy by label and concept in the user's own pictures, and the groups with which a classifier is re-trained."""

from collections.abc import Mapping, Sequence

import numpy as np

from diffexplain_fast.evidence.concept_names import folded, label_names
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.results.photographs import Slice
from diffexplain_fast.stats.intervals import wilson_interval

LEAST = 6
"""Pictures below which a slice is not reported."""


def slices_of(
    labels: Sequence[str],
    right: np.ndarray,
    seen: np.ndarray,
    concepts: Concepts,
    names: Sequence[str] | None = None,
) -> list[Slice]:
    """Return the accuracy of every label with every concept, the lowest first.

    Args:
        labels: the true label of each picture.
        right: whether it is answered with its label, bool [N].
        seen: from ``Given.seen``.
        concepts: whose values are slices.
        names: of every picture, what its label is called among the concepts; None for the label.
    """
    of_label, found, called = np.array(labels), [], dict(zip(labels, labels if names is None else names, strict=True))
    for label in dict.fromkeys(labels):
        mine, own = of_label == label, label_names(called[label])
        found.append(_slice(label, "", mine, right))
        for group, (name, values) in enumerate(concepts.groups.items()):
            if any(folded(value) in own for value in values):  # the label's own group has one value in it
                continue
            for place, value in enumerate(values):
                part = mine & (seen[:, group] == place)
                if part.sum() >= LEAST:
                    found.append(_slice(label, f"{name}:{value}", part, right))
    return sorted(found, key=lambda one: (one.accuracy, one.high))


def _slice(label: str, concept: str, part: np.ndarray, right: np.ndarray) -> Slice:
    hits, count = int(right[part].sum()), int(part.sum())
    return Slice(label, concept, count, hits / count, *wilson_interval(hits, count))


def training_groups(
    labels: Sequence[str], seen: np.ndarray, concepts: Concepts, shortcuts: Mapping[str, str]
) -> list[str]:
    """Return the name of every picture's group for re-training.

    Args:
        labels: the true label of each picture.
        seen: from ``Given.seen``.
        concepts: of the audit.
        shortcuts: label to the concept that its verdict calls a shortcut. Pictures of other labels are grouped by the
            label and the shortcut that they show, because that shortcut leads to the wrong answer there.
    """
    cells: dict[str, tuple[int, int]] = {}
    for group, (name, values) in enumerate(concepts.groups.items()):
        cells |= {f"{name}:{value}": (group, place) for place, value in enumerate(values)}
    found = []
    for label, values in zip(labels, seen, strict=True):
        own = shortcuts.get(label)
        shown = [concept for concept in dict.fromkeys(shortcuts.values()) if _shows(values, cells, concept)]
        if own is None:
            found.append(f"{label}, {shown[0]}" if shown else label)
        else:
            found.append(f"{label}, {own}" if own in shown else f"{label}, not {own}")
    return found


def _shows(values: np.ndarray, cells: Mapping[str, tuple[int, int]], concept: str) -> bool:
    if concept not in cells:
        return False
    group, place = cells[concept]
    return bool(values[group] == place)
