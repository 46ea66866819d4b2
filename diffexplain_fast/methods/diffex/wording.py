"""How captions of any language say a change: a word of the taxonomy in place of its sibling, or at the end."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from diffexplain_fast.methods.diffex.kinds import slot_of
from diffexplain_fast.taxonomy import Concept, Taxonomy


class _Place(NamedTuple):
    """Where a text says a word."""

    start: int
    end: int
    word: str

    def meets(self, other: "_Place") -> bool:
        """Return whether two places have a letter in common."""
        return self.start < other.end and other.start < self.end

    def inside(self, other: "_Place") -> bool:
        """Return whether a place is a part of a longer one."""
        return other.start <= self.start and self.end <= other.end and self.end - self.start < other.end - other.start


class PlainWording:
    """Captions as text in which words of a taxonomy are found and replaced.

    A word belongs to a slot; see ``kinds.slot_of``. Where several slots have the same word, each place of it belongs to
    the slot whose node it stands before, as in "a red shirt and a red hat"; without such names, to one slot after the
    other while there are places.

    Args:
        concepts: a taxonomy, or concepts of one.
    """

    placebos: tuple[str, ...] = ("{}, a picture", "{}, photo", "a {}")

    def __init__(self, concepts: Taxonomy | Iterable[Concept]) -> None:
        self._words: dict[str, list[str]] = {}
        self._names: dict[str, set[str]] = {}
        for concept in concepts.concepts if isinstance(concepts, Taxonomy) else concepts:
            self._words.setdefault(slot_of(concept), []).append(concept.word)
            self._names.setdefault(slot_of(concept), set()).update(concept.path[-2:-1])

    def said(self, text: str) -> dict[str, str]:
        """Return the word of each slot that a caption says; of several that before its node's name, or the longest."""
        return {slot: place.word for slot, place in self._places(text).items()}

    def disputed(self, text: str) -> dict[str, list[str]]:
        """Return {}: words of any language may stand together."""
        return {}

    def changed(self, text: str, changes: Mapping[str, str]) -> str:
        """Return a caption in which a new word replaces the one that is said, or follows at the end.

        Args:
            text: the caption.
            changes: slot to word; "" takes the word away.
        """
        places, new, added = self._places(text), dict[_Place, str](), list[str]()
        for slot, word in changes.items():
            place = places.get(slot)
            if place is not None and not any(place.meets(other) for other in new):
                new[place] = word
            elif word:
                added.append(word)
        for place, word in sorted(new.items(), reverse=True):
            text = text[: place.start] + word + text[place.end :]
        if not all(new.values()):
            text = re.sub(r"(\s*,)+", ",", text)
        text = ", ".join([part for part in (text.strip(" ,"), *added) if part])
        return re.sub(r"\s+", " ", text).strip(" ,")

    def without(self, text: str, category: str) -> str:
        """Return a caption that says nothing of a slot."""
        return self.changed(text, {category: ""}) if category in self.said(text) else text

    def region(self, word: str, category: str) -> str | None:
        """Return the word itself, None for no word."""
        return word or None

    def parts(self, phrase: str) -> dict[str, str]:
        """Return {}: a phrase is found and replaced as a whole."""
        return {}

    def _places(self, text: str) -> dict[str, _Place]:
        """Return where a caption says each slot that it says."""
        every = {slot: [p for word in words for p in _places_of(word, text)] for slot, words in self._words.items()}
        longest = [place for some in every.values() for place in some]
        whole = {slot: [p for p in some if not any(p.inside(q) for q in longest)] for slot, some in every.items()}
        named = {slot: {p for p in some if self._is_named(slot, p, text)} for slot, some in whole.items()}
        found: dict[str, _Place] = {}
        for slot, some in whole.items():
            of_others = [place for other, its in named.items() if other != slot for place in its]
            mine = [p for p in some if p in named[slot] or not any(p.meets(other) for other in of_others)]
            taken = [*found.values()]
            if mine:
                found[slot] = max(mine, key=lambda p: _rank(p, p in named[slot], any(p.meets(q) for q in taken)))
        return found

    def _is_named(self, slot: str, place: _Place, text: str) -> bool:
        after = text[place.end :]
        return any(re.match(rf"\s+{re.escape(name)}(?!\w)", after, re.IGNORECASE) for name in self._names[slot])


def _places_of(word: str, text: str) -> list[_Place]:
    pattern = rf"(?<!\w){re.escape(word)}(?!\w)"
    return [_Place(found.start(), found.end(), word) for found in re.finditer(pattern, text, re.IGNORECASE)]


def _rank(place: _Place, named: bool, taken: bool) -> tuple[bool, bool, int, int]:
    return named, not taken, len(place.word), -place.start
