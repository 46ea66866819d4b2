"""How captions of any language say a change: a word of the taxonomy in place of its sibling, or at the end."""

import re
from collections.abc import Mapping

from diffexplain_fast.taxonomy import Taxonomy


class PlainWording:
    """Captions as text in which words of a taxonomy are found and replaced.

    Args:
        taxonomy: whose leaves are the words.
    """

    placebos: tuple[str, ...] = ("{}, a picture", "{}, photo", "a {}")

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._words: dict[str, list[str]] = {}
        for concept in taxonomy.concepts:
            self._words.setdefault(concept.category or concept.word, []).append(concept.word)

    def said(self, text: str) -> dict[str, str]:
        """Return the word of each category that a caption says; of several the longest."""
        found = {
            category: [word for word in words if _pattern(word).search(text)] for category, words in self._words.items()
        }
        return {category: max(words, key=len) for category, words in found.items() if words}

    def changed(self, text: str, changes: Mapping[str, str]) -> str:
        """Return a caption in which a new word replaces the one that is said, or follows at the end.

        Args:
            text: the caption.
            changes: category to word; "" takes the word away.
        """
        said = self.said(text)
        for category, word in changes.items():
            if category in said:
                text = _pattern(said[category]).sub(lambda _, word=word: word, text, count=1)  # type: ignore[misc]
            elif word:
                text = f"{text}, {word}" if text else word
        return re.sub(r"\s+", " ", text).strip(" ,")

    def without(self, text: str, category: str) -> str:
        """Return a caption that says nothing of a category."""
        return self.changed(text, {category: ""}) if category in self.said(text) else text

    def region(self, word: str, category: str) -> str | None:
        """Return the word itself, None for no word."""
        return word or None


def _pattern(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
