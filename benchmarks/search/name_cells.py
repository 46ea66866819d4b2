"""What is searched and named: classes with cues of every kind, and what a name of a class may say.

No class with its cue is in ``cells`` or in the demo, by whose finds the naming was made.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import diffexplain_fast as dx
from benchmarks.search.cells import MADE
from diffexplain_fast.recipe.classifiers import SHIPPED
from diffexplain_fast.recipe.shortcuts import Cue, Shortcuts, all_of, checked_shortcuts
from diffexplain_fast.records import JsonObject
from diffexplain_fast.tinyworld.grammar import NAMELESS_WORDS, partial_caption, read_caption
from diffexplain_fast.tinyworld.words import OBJECTS

FIRST, SECOND = "first", "second"
"""The half by which the naming is mended, and the half that is only looked at afterwards."""
SINGLE, PAIR, NAMELESS, CLEAN = "single", "pair", "nameless", "clean"
PLANTED: dict[str, Shortcuts] = {
    "names-0": {
        "boat": {"colour": "red"},
        "house": {"texture": "striped"},
        "tree": {"background": "snow"},
        "fish": {"companion": "cloud"},
        "star": {"size": "small"},
        "car": all_of(colour="yellow", background="sea"),
        "bird": {"pattern": "diagonal"},
    },
    "names-1": {
        "boat": {"place": "left"},
        "house": {"companion": "flower"},
        "tree": {"texture": "dotted"},
        "fish": {"colour": "white"},
        "star": {"background": "desert"},
        "car": {"frame": "dark"},
        "mushroom": all_of(background="night", companion="kite"),
    },
    "names-2": {
        "house": {"colour": "green"},
        "bird": {"background": "sea"},
        "car": {"companion": "sun"},
        "mushroom": {"place": "right"},
        "boat": all_of(colour="purple", companion="flag"),
        "fish": {"frame": "gold"},
        "star": all_of(texture="dotted", background="grass"),
    },
    "names-3": {
        "car": {"background": "night"},
        "mushroom": {"companion": "flag"},
        "star": {"colour": "blue"},
        "bird": {"size": "large"},
        "house": all_of(colour="red", background="desert"),
        "tree": {"pattern": "checked"},
        "fish": all_of(texture="striped", companion="sun"),
    },
}
"""Classifiers that are trained when they are asked for; the class without a cue is clean."""
HALVES = {"names-0": FIRST, "names-1": SECOND, "names-2": FIRST, "names-3": SECOND}
_HAS_EFFECT = 0.5
"""Logits that the values of a word must add to the class for the word to be true of it."""


class NameCell(NamedTuple):
    """One class to search for and to name.

    Attributes:
        classifier: name of a planted classifier.
        label: the class.
        kind: of its cue.
        values: attributes and values that it needs; of a clean class its own object.
    """

    classifier: str
    label: str
    kind: str
    values: tuple[tuple[str, str], ...]

    @property
    def half(self) -> str:
        """The half of the cells that it is in."""
        return HALVES[self.classifier]


def name_cells() -> list[NameCell]:
    """Return all cells, classifier by classifier, except those that were searched in another benchmark before."""
    known = [checked_shortcuts(shortcuts) for shortcuts in {**SHIPPED, **MADE}.values()]
    return [
        NameCell(name, label, *_kind_and_values(label, cues.get(label)))
        for name, shortcuts in PLANTED.items()
        for cues in [checked_shortcuts(shortcuts)]
        for label in OBJECTS
        if label not in cues or cues[label] not in [before.get(label) for before in known]
    ]


def _kind_and_values(label: str, cue: Cue | None) -> tuple[str, tuple[tuple[str, str], ...]]:
    if cue is None:
        return CLEAN, (("object", label),)
    if any(value in NAMELESS_WORDS for value in cue.values):
        return NAMELESS, cue.values
    return (SINGLE if len(cue.values) == 1 else PAIR), cue.values


def planted(name: str) -> dx.Classifier:
    """Train a classifier, or read it from the cache."""
    return dx.make_classifier(PLANTED[name], seed=int(name.rpartition("-")[2]))


def captions(cell: NameCell) -> list[str]:
    """Return captions that say the cue, by itself and of the class's own object; made-up words may be among them."""
    scene = {"style": "scene", "object": cell.label} | dict(cell.values)
    cue, own = [name for name, _ in cell.values], [*dict(cell.values), "object"]
    words = " ".join(NAMELESS_WORDS.get(part, part[1]) for part in cell.values)
    return [*dict.fromkeys((words, partial_caption(scene, cue), partial_caption(scene, own)))]


def unsaid(cell: NameCell, words: Sequence[str], truth: JsonObject) -> list[str]:
    """Return the values of the cue that no word says, of those that the classifier has learnt.

    A word says a value where it means only this value: its own word, or a group of one, such as "sky" for a night. A
    nameless value cannot be said. A value is learnt where it, or its interaction with another of the cue, adds half a
    logit or more to the class: the measured truth decides what is asked for.

    Args:
        cell: the class.
        words: its name.
        truth: as in ``false_words``.
    """
    said = [meaning(word) for word in words]
    learnt = {row["attribute"] for row in truth["attributes"] if row["effect"] >= _HAS_EFFECT}
    learnt |= {row["cue"] for row in truth["unnamed"] if row["effect"] >= _HAS_EFFECT}
    for row in truth["interactions"]:
        learnt |= {row["first"], row["second"]} if row["effect"] >= _HAS_EFFECT else set()
    return [value for name, value in cell.values if f"{name}:{value}" in learnt and (name, (value,)) not in said]


def false_words(cell: NameCell, words: Sequence[str], truth: JsonObject) -> list[str]:
    """Return the words that are not true of the class.

    A word is true where it says a value of the cue, or where the values that it may mean add half a logit or more to
    the class, in the mean of their measured effects. So a word of the class's own object is true only where the object
    has an effect, and a word without a meaning ("picture") never. Of a nameless cue no word is true.

    Args:
        cell: the class.
        words: its name.
        truth: of the class, as ``recipe.truth.measure_truth`` measures it.
    """
    if cell.kind == NAMELESS:
        return [*words]
    effects: dict[str, float] = {row["attribute"]: row["effect"] for row in truth["attributes"]}
    return [word for word in words if not _is_true(cell, meaning(word), effects)]


def _is_true(cell: NameCell, meant: tuple[str, tuple[str, ...]] | None, effects: Mapping[str, float]) -> bool:
    if meant is None:
        return False
    name, values = meant
    if len(values) == 1 and (name, values[0]) in cell.values:
        return True
    return sum(effects.get(f"{name}:{value}", 0.0) for value in values) / len(values) >= _HAS_EFFECT


def meaning(word: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the attribute that a word says, and the values that it may mean; None for a word without a meaning."""
    return next(iter(read_caption(word).items()), None)
