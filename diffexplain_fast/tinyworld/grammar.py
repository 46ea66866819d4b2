"""How captions of the recipe's world are made and read: absence, groups and nameless things can be said.

A caption says some attributes of a picture. Each may be said by its word or by a group word ("a warm animal on land"),
absence by "nothing" and "plain". Patterns and frames have only made-up words, which are not in ``VOCABULARY``.
"""

from collections.abc import Collection, Mapping

import numpy as np

from diffexplain_fast.tinyworld.words import (
    ABSENCE,
    ATTRIBUTES,
    GROUPS,
    NOTHING,
    OBJECTS,
    PLACES,
    SIZES,
    STYLES,
    USUAL,
    WORLD,
    values_of,
)

THING = "thing"
"""Says that there is an object, not which."""
GRAMMAR = ("a", "on", "at", "with", "picture", "of", "texture", "shape", THING)
VOCABULARY = tuple(
    dict.fromkeys(
        (
            *GRAMMAR,
            *(word for values in ATTRIBUTES.values() for word in values),
            *SIZES,
            *PLACES,
            *(word for groups in GROUPS.values() for word in groups),
            NOTHING,
        )
    )
)
"""The public words: what word lists, taxonomies, screening and tables of nearest words may hold."""
NAMELESS_WORDS: Mapping[tuple[str, str], str] = {
    ("pattern", "diagonal"): "dax",
    ("pattern", "checked"): "wug",
    ("frame", "dark"): "blicket",
    ("frame", "gold"): "toma",
}
"""Attribute and value to the made-up word of captions. The tokenizer has these words as added tokens, as it has those
of a textual inversion; nobody who reads the language knows them."""

OF_OBJECT = ("size", "colour", "texture", "place")
_MEANINGS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    **{value: (name, (value,)) for name, values in ATTRIBUTES.items() for value in values},
    **{value: (name, (value,)) for name in ("size", "place") for value in WORLD[name]},
    **{word: (name, values) for name, groups in GROUPS.items() for word, values in groups.items()},
    **{word: (name, (value,)) for (name, value), word in NAMELESS_WORDS.items()},
    **{style: ("style", (style,)) for style in STYLES if style != "scene"},
    THING: ("object", OBJECTS),
}
_NOTHING_SAID = (("object", (NOTHING,)), ("companion", (NOTHING,)))
"""What "nothing" says: of the object, or of the companion after "with"."""
_ABSENT_SHARES = {"object": 0.1, "companion": 0.2, "size": 0.5, "place": 0.5, "pattern": 0.76, "frame": 0.76}
_STYLE_SHARES = (0.95, 0.02, 0.03)
_FULL_CAPTION_SHARE = 0.4
_MENTION_SHARE = 0.6
_GROUP_SHARE = 0.12
_PREFIX_SHARE = 0.1
_BARE_SHARE = 0.06
"""Share of captions that are one word."""


def draw_world(rng: np.random.Generator) -> dict[str, str]:
    """Draw one independent value for every attribute of ``WORLD``, and a style, with the shares of the recipe."""
    pick = {}
    for name in WORLD:
        values, absent = values_of(name), _ABSENT_SHARES.get(name)
        rest = None if absent is None else [(1 - absent) / (len(values) - 1)] * (len(values) - 1) + [absent]
        pick[name] = str(rng.choice(values, p=rest))
    pick["style"] = str(rng.choice(STYLES, p=_STYLE_SHARES)) if pick["object"] != NOTHING else "scene"
    return pick


def visible(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that can be seen in a picture: an empty place has no colour, a silhouette no background."""
    style = attributes["style"]
    if style == "texture":
        names: Collection[str] = ("colour", "texture")
    elif style == "shape":
        names = ("object",)
    else:
        names = [name for name in WORLD if attributes["object"] != NOTHING or name not in OF_OBJECT]
    return {"style": style} | {name: attributes.get(name, ABSENCE.get(name, "")) for name in names}


def full_caption(attributes: Mapping[str, str], nameless: bool = False) -> str:
    """Return the caption that says everything that has a public word, absence and a plain surface too.

    Args:
        attributes: of the picture.
        nameless: also say patterns and frames, by their made-up words.
    """
    return _phrase(attributes, set(WORLD) if nameless else set(ATTRIBUTES) | {"size", "place"}, {})


def partial_caption(attributes: Mapping[str, str], mentioned: Collection[str]) -> str:
    """Return the caption that says some attributes of a picture, by their own words.

    Args:
        attributes: of the picture.
        mentioned: names of the attributes that are said.
    """
    return _phrase(attributes, mentioned, {})


def varied_caption(attributes: Mapping[str, str], rng: np.random.Generator) -> str:
    """Return a caption as people write them: often silent about some attributes, at times vague, at times one word.

    Args:
        attributes: of the picture.
        rng: decides.

    Returns:
        A caption that is true of the picture; the made-up words are among its words.
    """
    seen = visible(attributes)
    if rng.random() < _BARE_SHARE:
        words = [word for name, value in seen.items() if (word := _word(name, value)) is not None]
        return str(rng.choice(words)) if words else "a picture"
    share = 1.0 if rng.random() < _FULL_CAPTION_SHARE else _MENTION_SHARE
    mentioned = {name for name in WORLD if rng.random() < share}
    vague = {
        name: str(rng.choice(fitting))
        for name, groups in GROUPS.items()
        if rng.random() < _GROUP_SHARE
        and (fitting := [word for word, values in groups.items() if attributes[name] in values])
    }
    text = _phrase(attributes, mentioned, vague)
    return f"a picture of {text}" if attributes["style"] == "scene" and rng.random() < _PREFIX_SHARE else text


def wrong_caption(text: str, attributes: Mapping[str, str], rng: np.random.Generator) -> str | None:
    """Return a caption that differs from ``text`` in one attribute, so that it is false; ``None`` if it says none.

    Args:
        text: a caption that is true of the picture.
        attributes: of the picture.
        rng: decides which attribute, and which word.
    """
    words = text.split()
    said = {i: meaning[0] for i in range(len(words)) if (meaning := _meaning(words, i)) is not None}
    places = [i for i in said if words[i] not in (*STYLES, THING)]
    for i in rng.permutation(places).tolist():
        name = said[i]
        others = [
            word
            for word, (about, values) in _MEANINGS.items()
            if about == name and attributes[name] not in values and word != THING
        ]
        others += [NOTHING] if name == "companion" and i and words[i - 1] == "with" and words[i] != NOTHING else []
        if not others:
            continue
        other = str(rng.choice(others))
        article = words[i] == NOTHING and name == "object" and len(words) > 1
        return " ".join([*words[:i], f"a {other}" if article else other, *words[i + 1 :]])
    return None


def read_caption(text: str) -> dict[str, tuple[str, ...]]:
    """Return what a caption says: attribute to the values that it allows; an attribute that is not said is left out.

    Words that say nothing of the picture, known or not, are passed over. "Nothing" after "with" is the companion's. Of
    several words of one attribute the last one counts.
    """
    return {name: values for _, name, values in read_words(text)}


def read_words(text: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return the words of a caption that say something of a picture, each with its attribute and what it allows."""
    words = text.split()
    meanings = [(word, _meaning(words, i)) for i, word in enumerate(words)]
    return [(word, *meaning) for word, meaning in meanings if meaning is not None]


def is_true(said: Mapping[str, tuple[str, ...]], attributes: Mapping[str, str]) -> bool:
    """Whether everything that a caption says (see ``read_caption``) can be seen in a picture and is so."""
    seen = visible(attributes)
    return all(seen.get(name) in values for name, values in said.items())


def _meaning(words: list[str], i: int) -> tuple[str, tuple[str, ...]] | None:
    if words[i] == NOTHING:
        return _NOTHING_SAID[i > 0 and words[i - 1] == "with"]
    return _MEANINGS.get(words[i])


def _word(name: str, value: str) -> str | None:
    """Return the word that says a value by itself; a missing companion needs its "with", and a usual size has none."""
    if (name, value) in NAMELESS_WORDS:
        return NAMELESS_WORDS[name, value]
    if name == "style" or value == USUAL or (value == NOTHING and name != "object"):
        return None
    return value


def _phrase(attributes: Mapping[str, str], mentioned: Collection[str], vague: Mapping[str, str]) -> str:
    seen = visible(attributes)

    def say(name: str) -> str:
        if name not in mentioned or name not in seen:
            return ""
        return vague.get(name) or _word(name, seen[name]) or ""

    if attributes["style"] == "texture":
        return " ".join(word for word in ("a texture of", say("colour"), say("texture")) if word)
    if attributes["style"] == "shape":
        return f"a shape of {say('object') or THING}"
    adjectives = [word for name in ("size", "colour", "texture") if (word := say(name))]
    thing = say("object")
    if (thing and thing != NOTHING) or adjectives or say("place"):
        thing = " ".join(["a", *adjectives, thing or THING])
    where = [f"at {say('place')}"] if say("place") else []
    ground = [f"on {say('background')}"] if say("background") else []
    said = [thing, *where, *ground] if thing else [say("background") or "a picture"]
    companion = NOTHING if "companion" in mentioned and seen["companion"] == NOTHING else say("companion")
    said += [f"with {companion}"] if companion else []
    said += [word for name in ("pattern", "frame") if (word := say(name))]
    return " ".join(said)
