"""A word that changes a second thing: what the exclusion restriction of a test with words as instruments forbids."""

import re
from collections.abc import Mapping

from diffexplain_fast.errors import unknown_name, wrong_type, wrong_value
from diffexplain_fast.tinyworld.grammar import NAMELESS_WORDS, THING, VOCABULARY, read_caption
from diffexplain_fast.tinyworld.words import ABSENCE, NOTHING, WORLD, values_of

SideEffect = Mapping[str, Mapping[str, str]]
"""Word to the attribute values that every picture asked for with this word shows too."""
_PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+", re.IGNORECASE)
"""Where CLIP's tokenizers cut a text."""
_ADJECTIVES = ("size", "colour", "texture")
_LEADING = {"place": "at", "background": "on", "companion": "with"}


def checked_side_effect(side_effect: object) -> dict[str, dict[str, str]]:
    """Return a side effect of plain dicts.

    Args:
        side_effect: see ``SideEffect``.

    Raises:
        TypeError: no dict, or a word with something else than a dict.
        UnknownNameError: a word, attribute or value that the world does not have.
        ValueError: a value that no caption can say.
    """
    found: dict[str, dict[str, str]] = {}
    words = (*VOCABULARY, *NAMELESS_WORDS.values())
    if not isinstance(side_effect, Mapping):
        raise wrong_type("side_effect", "a dict from words to what they change too, or None", side_effect)
    for word, changes in side_effect.items():
        if word not in words:
            raise unknown_name("side_effect", str(word), words)
        argument = f"side_effect[{word!r}]"
        if not isinstance(changes, Mapping):
            raise wrong_type(argument, "a dict from attributes to values", changes)
        for name, value in changes.items():
            if name not in WORLD:
                raise unknown_name(argument, str(name), tuple(WORLD))
            if value not in values_of(name):
                raise unknown_name(argument, str(value), values_of(name))
            if value == ABSENCE.get(name) and name not in ("object", "companion"):
                raise wrong_value(argument, "values that a caption can say", f"{name} {value}")
        found[word] = dict(changes)
    return found


def say_also(text: str, side_effect: SideEffect) -> str:
    """Return a caption that says the second things too, in place of what it says of the same attributes.

    Args:
        text: a caption or any other prompt; its words are those that the tokenizer reads, whatever their case and
            whatever comma or full stop follows. A text without a word of the side effect is returned as it is.
        side_effect: see ``SideEffect``; of several words the later ones of the table win.
    """
    before = said = _words(text)
    for word, changes in side_effect.items():
        if word in said:
            for name, value in changes.items():
                said = _with(said, name, value)
    return text if said == before else " ".join(said)


def _words(text: str) -> list[str]:
    """The words and signs that the tokenizer reads, which writes all but made-up words in small letters."""
    made_up, found = {*NAMELESS_WORDS.values()}, _PIECES.findall(text)
    return [piece if piece.lower() in made_up else piece.lower() for piece in found]


def _with(said: list[str], name: str, value: str) -> list[str]:
    """Words of a caption that says one more value."""
    word = NAMELESS_WORDS.get((name, value), value)
    places = [i for i in range(len(said)) if _about(said, i) == name]
    if places:
        return [*said[: places[0]], word, *said[places[0] + 1 :]]
    if name in _LEADING:
        return [*said, _LEADING[name], word]
    objects = [i for i in range(len(said)) if _about(said, i) == "object"]
    if name == "object":
        return ["a", word, *said]
    if name not in _ADJECTIVES:
        return [*said, word]
    if objects:
        return [*said[: objects[0]], word, *said[objects[0] :]]
    return ["a", word, THING, *said]


def _about(said: list[str], i: int) -> str | None:
    """The attribute that a word of a caption is about."""
    before = said[max(0, i - 1) : i] if said[i] == NOTHING else []
    return next(iter(read_caption(" ".join([*before, said[i]]))), None)
