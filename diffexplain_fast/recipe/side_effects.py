"""A word that changes a second thing: what the exclusion restriction of a test with words as instruments forbids."""

import re
from collections.abc import Mapping

from diffexplain_fast.errors import unknown_name, wrong_type, wrong_value
from diffexplain_fast.tinyworld.grammar import GRAMMAR, NAMELESS_WORDS, THING, VOCABULARY, read_caption
from diffexplain_fast.tinyworld.words import ABSENCE, NOTHING, WORLD, values_of

SideEffect = Mapping[str, Mapping[str, str]]
"""Word to the attribute values that every picture asked for with this word shows too."""
_PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+", re.IGNORECASE)
"""Where CLIP's tokenizers cut a text."""
_ADJECTIVES = ("size", "colour", "texture")
_LEADING = {"place": "at", "background": "on", "companion": "with"}
_FOLLOWING = ("place", "background", "companion", "pattern", "frame")
"""What a caption says after the object, in this order; the adjectives before the object have theirs too."""
_ORDER = ("object", *_ADJECTIVES, *_FOLLOWING)
"""Attributes in the order in which they are added: first the object, so that the others are said of it."""


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

    Every value has the place that the world's captions give it, whatever the order of the dict: size, colour and
    texture before the object, of which all of them are said, then place, background, companion, pattern and frame.

    Args:
        text: a caption or any other prompt; its words are those that the tokenizer reads, whatever their case and
            whatever comma or full stop follows. A text without a word of the side effect is returned as it is.
        side_effect: see ``SideEffect``; of several words the later ones of the table win.
    """
    before = said = _words(text)
    for word, changes in side_effect.items():
        if word in said:
            for name in sorted(changes, key=_ORDER.index):
                said = _with(said, name, changes[name])
    return text if said == before else " ".join(said)


def _words(text: str) -> list[str]:
    """The words and signs that the tokenizer reads, which writes all but made-up words in small letters."""
    made_up, found = {*NAMELESS_WORDS.values()}, _PIECES.findall(text)
    return [piece if piece.lower() in made_up else piece.lower() for piece in found]


def _with(said: list[str], name: str, value: str) -> list[str]:
    """Words of a caption that says one more value."""
    word = NAMELESS_WORDS.get((name, value), value)
    about = [_about(said, i) for i in range(len(said))]
    if name in about:
        return _replaced(said, about, name, word)
    if name in _FOLLOWING:
        new = [_LEADING[name], word] if name in _LEADING else [word]
        place = _before_later(said, about, name)
        return [*said[:place], *new, *said[place:]]
    if "object" in about:
        return _of_object(said, about, name, word)
    return _of_no_object(said, about, name, word)


def _about(said: list[str], i: int) -> str | None:
    """The attribute that a word of a caption is about; "nothing" after "with" is the companion's."""
    before = said[max(0, i - 1) : i] if said[i] == NOTHING else []
    before = before if before == [_LEADING["companion"]] else []
    return next(iter(read_caption(" ".join([*before, said[i]]))), None)


def _replaced(said: list[str], about: list[str | None], name: str, word: str) -> list[str]:
    """Words that say another value of an attribute; an empty place has neither article nor adjectives."""
    place = about.index(name)
    start, old, rest = place, said[place], said[place + 1 :]
    while name == "object" and start and about[start - 1] in _ADJECTIVES:
        start -= 1
    article = start > 0 and said[start - 1] == "a"
    if name == "object" and word == NOTHING != old:
        return [*said[: start - article], word, *rest]
    if name == "object" and old == NOTHING != word and not article:
        return [*said[:start], "a", *said[start:place], word, *rest]
    if name == "companion" and word == NOTHING and said[max(0, place - 1) : place] != [_LEADING[name]]:
        return [*said[:place], _LEADING[name], word, *rest]  # alone it would be the object
    return [*said[:place], word, *rest]


def _before_later(said: list[str], about: list[str | None], name: str) -> int:
    """The place before what a caption says later than an attribute that follows the object."""
    later = _FOLLOWING[_FOLLOWING.index(name) + 1 :]
    for i, other in enumerate(about):
        if other in later and other not in _LEADING:
            return i
        if other in later and i and said[i - 1] == _LEADING[other]:
            return i - 1
    return len(said)


def _of_object(said: list[str], about: list[str | None], name: str, word: str) -> list[str]:
    """Words that say an adjective of the object, before the adjectives that come later in captions."""
    place = i = about.index("object")
    while i and (about[i - 1] in _ADJECTIVES or (about[i - 1] is None and _is_unknown(said[i - 1]))):
        i -= 1
        if _is_later(about[i], name):
            place = i
    return [*said[:place], word, *said[place:]]


def _is_unknown(word: str) -> bool:
    return word.isalpha() and word not in GRAMMAR


def _is_later(other: str | None, name: str) -> bool:
    return other in _ADJECTIVES and _ORDER.index(other) > _ORDER.index(name)


def _of_no_object(said: list[str], about: list[str | None], name: str, word: str) -> list[str]:
    """Words that say an object, or an adjective of what a caption leaves open: of a surface, or of a thing."""
    start = next((i for i, other in enumerate(about) if other in _ADJECTIVES), None)
    surface = next((i + 2 for i in range(len(said) - 1) if said[i : i + 2] == ["texture", "of"]), None)
    start = surface if start is None else start
    if start is None:
        new = [word] if word == NOTHING else ["a", word] if name == "object" else ["a", word, THING]
        start = 3 if said[:3] == ["a", "picture", "of"] else 0
        return [*said[:start], *new, *said[2 if said[:2] == ["a", "picture"] and not start else start :]]
    end = start
    while end < len(said) and about[end] in _ADJECTIVES:
        end += 1
    if word == NOTHING:
        return [*said[: start - (said[max(0, start - 1) : start] == ["a"])], word, *said[end:]]
    place = end if name == "object" else next((i for i in range(start, end) if _is_later(about[i], name)), end)
    adjectives = [*said[start:place], word, *said[place:end]]
    if surface == start:
        return [*said[:start], *adjectives, *said[end:]]
    article = [] if said[max(0, start - 1) : start] == ["a"] else ["a"]
    return [*said[:start], *article, *adjectives, *([] if name == "object" else [THING]), *said[end:]]
