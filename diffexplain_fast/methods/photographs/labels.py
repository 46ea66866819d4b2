"""Which targets the labels of own pictures name, where classes may share a name."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.targets.classes import with_index

_NAMED = 5
"""Labels of pictures that a note names at most."""


@dataclass(frozen=True)
class Labels:
    """The labels of own pictures.

    Attributes:
        given: of every picture, as the user wrote it; empty without labels.
        names: of every picture, its label without the index that tells classes of one name apart.
        places: label to the places of the targets that it names; labels that name none are left out.
        notes: what is to be said of them, in words.
    """

    given: tuple[str, ...]
    names: tuple[str, ...]
    places: dict[str, list[int]]
    notes: list[str]


def read_labels(given: Sequence[str], readout: Readout) -> Labels:
    """Return what the labels of own pictures name.

    "crane (134)" is the class of that index. "crane" alone is every class of this name, if all of them are targets: an
    answer with any of them is right, because the label says no more.

    Args:
        given: of every picture.
        readout: the targets.
    """
    every, by_label = Counter(readout.classifier.labels or ()), dict[str, list[int]]()
    for place, label in enumerate(readout.labels):
        if label is not None:
            by_label.setdefault(label, []).append(place)
    places = {readout.names[place]: [place] for found in by_label.values() for place in found}
    places |= {label: found for label, found in by_label.items() if len(found) >= every[label]}
    bare = {readout.names[place]: label for label, found in by_label.items() for place in found}
    notes, there = [], [label for label in given if label in places]
    if len(there) < len(given):
        others = ", ".join(list(dict.fromkeys(label for label in given if label not in places))[:_NAMED])
        left = f"{len(given) - len(there)} pictures have a label that is no target of the audit ({others})"
        notes.append(f"{left}: their accuracy is not counted")
    for label in dict.fromkeys(there):
        if len(places[label]) > 1:
            classes = [readout.names[place] for place in places[label]]
            told = f"the name of {len(classes)} classes, and an answer with any of them counts as right"
            notes.append(f'{label} is {told}: labels such as "{classes[0]}" tell them apart')
    indexed = {with_index(name, i): name for i, name in enumerate(readout.classifier.labels or ())}
    names = tuple(label if label in every else bare.get(label, indexed.get(label, label)) for label in given)
    return Labels(tuple(given), names, {label: places[label] for label in there}, notes)


def shortcuts_of(audit: Audit, readout: Readout, labels: Labels) -> dict[str, str]:
    """Return label to the strongest concept that the audit calls a shortcut of a class that the label names.

    Args:
        audit: of generated pictures.
        readout: the targets.
        labels: of own pictures; a target that no picture has counts under its own name.
    """
    found: dict[str, str] = {}
    spurious = [row for row in audit.findings if row.role == "spurious"]
    wanted = {name: [place] for place, name in enumerate(readout.names) if readout.labels[place] is not None}
    for label, places in (wanted | labels.places).items():
        names = {readout.names[place] for place in places}
        concepts = [row.concept for row in spurious if row.target in names]
        if concepts:
            found[label] = concepts[0]
    return found
