"""Measured truth of classifiers of the tiny world, in the terms of an audit."""

from collections.abc import Mapping, Sequence

import numpy as np

from diffexplain_fast.records import Json

Truth = dict[tuple[str, str], float]
"""Label and concept to the true effect."""


def audit_truth(
    truth: Mapping[str, Json], concepts: Sequence[str] | None = None, own_shares: Mapping[str, float] | None = None
) -> Truth:
    """Return label and concept to the true effect in centred logits against the median of its group.

    The group is what was asked for. A truth knows more values than that, such as a missing object, and the median over
    all of them is another one: with eight objects and their absence it is the fifth of nine, not between the fourth and
    the fifth of eight.

    A truth with levels says that itself. An older one compares a value with the mean of the others, in raw logits; both
    are linear in the mean logits of the values, so one follows from the other. A missing companion is in no older truth
    and is left out of the median of its group.

    Args:
        truth: of a classifier of the tiny world, label to ``{"attributes": [...]}``.
        concepts: that were asked for, as "group:value"; None for all that the truth knows.
        own_shares: label to the share of the pictures, 0 to 1, that show the class's own object. A truth with levels
            then says what a value does in such pictures; of labels that are not named it averages over the own object
            present and absent in equal parts. A truth without levels cannot tell and ignores it.
    """
    labels = list(truth)
    if has_levels(truth):
        shares = own_shares or {}
        known: Truth = {}
        for label in labels:
            known |= _effects(label, truth[label]["attributes"], shares.get(label))
        return _among(known, labels, concepts)
    raw = {label: {row["attribute"]: row["effect"] for row in truth[label]["attributes"]} for label in labels}
    names = list(raw[labels[0]])
    groups = [name.partition(":")[0] for name in names]
    table = np.array([[raw[label][name] for label in labels] for name in names])
    found: Truth = {}
    for group in dict.fromkeys(groups):
        rows = [i for i, own in enumerate(groups) if own == group]
        # A value minus the mean of the k - 1 others is k / (k - 1) times the value minus the mean of all.
        means = table[rows] * (len(rows) - 1) / len(rows)
        means -= means.mean(1, keepdims=True)
        effects = means - np.median(means, 0)
        for i, row in zip(rows, effects.tolist(), strict=True):
            found |= {(label, names[i]): effect for label, effect in zip(labels, row, strict=True)}
    return _among(found, labels, concepts)


def _effects(label: str, rows: Sequence[Json], share: float | None) -> Truth:
    """Return the effects of a truth with levels, in pictures of which a share shows the class's own object.

    The rows about objects are not split by the object, so they have one level and stay.
    """
    found = {(label, row["attribute"]): row["effect"] for row in rows}
    if share is None:
        return found
    split = {row["attribute"]: row["levels"] for row in rows if {"with", "without"} <= row["levels"].keys()}
    for group in dict.fromkeys(name.partition(":")[0] for name in split):
        parts = {name: levels for name, levels in split.items() if name.partition(":")[0] == group}
        mixed = {
            name: share * levels["with"]["logit"] + (1 - share) * levels["without"]["logit"]
            for name, levels in parts.items()
        }
        middle = float(np.median(list(mixed.values())))
        found |= {(label, name): level - middle for name, level in mixed.items()}
    return found


def _among(effects: Truth, labels: Sequence[str], concepts: Sequence[str] | None) -> Truth:
    """Return the effects against the median of those that were asked for, and only of those."""
    if concepts is None:
        return effects
    found: Truth = {}
    for label in labels:
        for group in dict.fromkeys(name.partition(":")[0] for name in concepts):
            own = [name for name in concepts if name.partition(":")[0] == group and (label, name) in effects]
            middle = float(np.median([effects[label, name] for name in own])) if own else 0.0
            found |= {(label, name): effects[label, name] - middle for name in own}
    return found


def has_levels(truth: Mapping[str, Json]) -> bool:
    """Return whether a truth averages over the own object present and absent in equal parts, as an audit does."""
    return all("levels" in row for part in truth.values() for row in part["attributes"])
