"""How captions say words of categories that a wording knows, beside words of others that it does not know."""

from collections.abc import Collection, Mapping

from diffexplain_fast.evidence.shipped import Shipped, Wording
from diffexplain_fast.methods.diffex.eyes import values_of
from diffexplain_fast.methods.diffex.kinds import kind_of
from diffexplain_fast.methods.diffex.phrases import said_by
from diffexplain_fast.methods.diffex.wording import PlainWording
from diffexplain_fast.taxonomy import Taxonomy


def wording_for(taxonomy: Taxonomy, shipped: Shipped) -> Wording:
    """Return the wording that ships, with words beside it where it does not know all; or words alone.

    Words are found and replaced alone where nothing ships, and where it knows no category; except for a category that
    acts on a thing, because only the wording that ships says which thing is there. A phrase that it reads is its own.
    """
    if shipped.wording is None:
        return PlainWording(taxonomy)
    asked = {slot for concept in taxonomy.concepts for slot in said_by(concept, shipped.wording)}
    known = values_of(shipped.wording, shipped.taxonomy).keys()
    if not any(slot in known or kind_of(slot).parts for slot in asked):
        return PlainWording(taxonomy)
    return shipped.wording if asked <= known else MixedWording(shipped.wording, known, taxonomy)


class MixedWording:
    """A wording, with the words of other categories found, replaced or added in its captions.

    Args:
        own: the wording.
        known: slots that it says; see ``kinds.slot_of``.
        taxonomy: of these and other categories.
    """

    def __init__(self, own: Wording, known: Collection[str], taxonomy: Taxonomy) -> None:
        self.placebos = own.placebos
        others = [concept for concept in taxonomy.concepts if not said_by(concept, own).keys() <= set(known)]
        self._own, self._known, self._others = own, known, PlainWording(others)
        nothing, single = own.said(""), [concept.word for concept in others if len(concept.word.split()) == 1]
        # A word of both is the wording's where a caption has it; of words such as "red hat" it would read a part.
        self._read = {word for word in single if own.said(word) != nothing}

    def said(self, text: str) -> dict[str, str]:
        """Return what a caption says: slot to word."""
        return {**self._others.said(text), **self._own.said(self._parted(text)[0])}

    def disputed(self, text: str) -> dict[str, list[str]]:
        """Return the slots of which a caption says what cannot be true at once, with its words for each."""
        return self._own.disputed(self._parted(text)[0])

    def changed(self, text: str, changes: Mapping[str, str]) -> str:
        """Return a caption with other words of some slots."""
        own, kept = self._parted(text)
        found = self._own.changed(own, {slot: word for slot, word in changes.items() if slot in self._known})
        new = {slot: word for slot, word in changes.items() if slot not in self._known}
        return self._others.changed(found, {**kept, **new})

    def without(self, text: str, category: str) -> str:
        """Return a caption that says nothing of a slot, or that it is not there."""
        if category not in self._known:
            return self._others.without(text, category)
        own, kept = self._parted(text)
        return self._others.changed(self._own.without(own, category), kept)

    def region(self, word: str, category: str) -> str | None:
        """Return the text that asks a segmenter for a word of a slot, None for one that is nowhere."""
        return (self._own if category in self._known else self._others).region(word, category)

    def parts(self, phrase: str) -> dict[str, str]:
        """Return what a phrase says of several slots at once, {} for any other text."""
        return self._own.parts(phrase)

    def _parted(self, text: str) -> tuple[str, dict[str, str]]:
        """Return a caption without the words that only the other categories know, and these words by slot."""
        kept = {slot: word for slot, word in self._others.said(text).items() if word not in self._read}
        return self._others.changed(text, dict.fromkeys(kept, "")), kept
