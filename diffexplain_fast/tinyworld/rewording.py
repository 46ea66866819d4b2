"""The tiny world's own taxonomy, and how its captions say a change of a picture."""

from collections.abc import Collection, Mapping
from string import punctuation
from typing import NamedTuple

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.taxonomy import Taxonomy
from diffexplain_fast.tinyworld.grammar import OF_OBJECT, full_caption, read_words
from diffexplain_fast.tinyworld.words import ABSENCE, ATTRIBUTES, GROUPS, NOTHING, OBJECTS, USUAL, WORLD, caption

_PLAIN = "plain"
_OPTIONAL = ("size", "place")
"""Attributes that the first world's captions do not say."""


def world_taxonomy(words: Collection[str]) -> Taxonomy:
    """Return the taxonomy of all that captions of the world can change.

    Values of an attribute lie below its group words, from wide to narrow; a companion or object that is not there is
    "nothing".

    Args:
        words: that the pipeline knows; an attribute with a value that is none of them is left out.
    """
    categories: dict[str, object] = {}
    for name in (*ATTRIBUTES, *_OPTIONAL):
        if set(WORLD[name]) <= set(words):
            groups = dict(sorted(GROUPS.get(name, {}).items(), key=lambda item: -len(item[1])))
            absence = {NOTHING: None} if ABSENCE.get(name) == NOTHING else {}
            categories[name] = {**_nested(WORLD[name], groups), **absence}
    return Taxonomy(categories, domain="tiny world")


def _nested(values: Collection[str], groups: Mapping[str, tuple[str, ...]]) -> dict[str, object]:
    """Return values below the widest groups that hold them, and those below narrower ones."""
    tree: dict[str, object] = {}
    left = dict.fromkeys(values)
    for word, members in groups.items():
        if set(members) <= left.keys() and len(members) < len(values):
            for member in members:
                del left[member]
            inner = {other: found for other, found in groups.items() if other != word and set(found) <= set(members)}
            tree[word] = _nested(members, inner)
    return {**tree, **dict.fromkeys(left)}


class WorldWording:
    """Captions of the tiny world as attributes, and back.

    What a caption leaves open is absent, plain, or of the usual size and place; a colour or background is not said.
    Capitals count as small letters, and punctuation is passed over: the world's words have neither.

    Args:
        words: that the pipeline knows; where "nothing" is one of them, captions say absence.
    """

    placebos: tuple[str, ...] = ("a picture of {}",)
    """Frames of a caption that change nothing in the picture."""

    def __init__(self, words: Collection[str]) -> None:
        self._words, self._says_absence = {*words}, NOTHING in words

    def said(self, text: str) -> dict[str, str]:
        """Return what a caption says: attribute to value."""
        read = {name: said.values[0] for name, said in _read(text).items() if len(said.values) == 1}
        return {"texture": _PLAIN, "style": "scene", **ABSENCE, **read}

    def disputed(self, text: str) -> dict[str, list[str]]:
        """Return the attributes of which a text says what cannot be true at once, with its words for each."""
        return {name: said.words for name, said in _read(text).items() if said.disputed}

    def changed(self, text: str, changes: Mapping[str, str]) -> str:
        """Return a caption with other values of some attributes.

        Args:
            text: the caption.
            changes: attribute to value.
        """
        changes = {name: word.lower() for name, word in changes.items()}
        now = {**self.said(text), **changes}
        if self._says_absence:
            return full_caption({**dict.fromkeys(WORLD, ""), **now})
        found = caption({**dict.fromkeys(ATTRIBUTES, NOTHING), **now})
        if changes.get("texture") == _PLAIN and now.get("object", NOTHING) != NOTHING:
            found = found.replace(now["object"], f"{_PLAIN} {now['object']}", 1)  # captions of today leave it out
        return found

    def without(self, text: str, category: str) -> str:
        """Return a caption without the object, or the companion; of any other attribute the caption as it is."""
        return self.changed(text, {category: NOTHING}) if ABSENCE.get(category) == NOTHING else text

    def region(self, word: str, category: str) -> str | None:
        """Return the text that asks the segmenter for a value, None for one that is nowhere."""
        word = word.lower()
        if word in (NOTHING, USUAL):
            return None
        return word if category == "background" else f"a {word}"

    def parts(self, phrase: str) -> dict[str, str]:
        """Return what a phrase such as "blue striped" or "a red boat on sea" says of two attributes or more.

        Args:
            phrase: text.

        Returns:
            Attribute to value; {} for a phrase with a word that the pipeline does not know, with a group word, or of
            fewer attributes. "Thing" says no value.

        Raises:
            ValueError: a phrase of known words that contradicts itself, such as "red blue fish".
        """
        if not self._words.issuperset(phrase.lower().split()):
            return {}
        found = _read(phrase)
        for name, said in found.items():
            if said.disputed:
                got = f"{phrase!r}, of which {' and '.join(said.words)} cannot be true at once"
                raise wrong_value("taxonomy", f"phrases that say one {name}", got)
        read = {name: said.values for name, said in found.items() if said.values != OBJECTS}
        known = len(read) > 1 and read.keys() <= {*ATTRIBUTES, *_OPTIONAL}
        return {name: values[0] for name, values in read.items()} if known and max(map(len, read.values())) == 1 else {}


class _Said(NamedTuple):
    """What a text says of an attribute.

    Attributes:
        values: that all of its words allow; where no value is left, those that the last word allows.
        words: of the text that are about it.
        disputed: whether they cannot be true at once.
    """

    values: tuple[str, ...]
    words: list[str]
    disputed: bool


def _read(text: str) -> dict[str, _Said]:
    """Return what a text says of each attribute; "nothing" is disputed by what is said of a thing."""
    found: dict[str, _Said] = {}
    for word, name, values in read_words(" ".join(word.strip(punctuation) for word in text.lower().split())):
        before = found.get(name, _Said(values, [], False))
        both = tuple(value for value in before.values if value in values)
        found[name] = _Said(both or values, [*before.words, word], before.disputed or not both)
    about = [word for name in OF_OBJECT if name in found for word in found[name].words]
    thing = found.get("object")
    if thing is not None and thing.values == (NOTHING,) and about:
        found["object"] = _Said(thing.values, [*thing.words, *about], True)
    return found
