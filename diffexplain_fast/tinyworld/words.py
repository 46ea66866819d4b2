"""The words of the tiny world: what a scene may contain, and how a caption says it."""

from collections.abc import Mapping

import numpy as np

OBJECTS = ("boat", "house", "tree", "fish", "star", "car", "bird", "mushroom")
COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
TEXTURES = ("plain", "striped", "dotted")
BACKGROUNDS = ("sea", "grass", "desert", "snow", "night")
COMPANIONS = ("sun", "flag", "flower", "cloud", "kite")
NOTHING = "nothing"
"""The object or companion that leaves its place empty; the pattern, frame or mark that is not there."""

SIZES = ("small", "large")
PLACES = ("left", "right")
USUAL = "usual"
"""The size between small and large, and the place between left and right; no caption says it."""
PATTERNS = ("diagonal", "checked")
FRAMES = ("dark", "gold")
MARKS = ("watermark",)
"""What no model of the world has ever seen in training."""

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "object": OBJECTS,
    "colour": COLOURS,
    "texture": TEXTURES,
    "background": BACKGROUNDS,
    "companion": COMPANIONS,
}
"""Attribute name to its values, in the order in which a caption mentions them (the object follows its adjectives)."""

ABSENCE: Mapping[str, str] = {
    **dict.fromkeys(("object", "companion", "pattern", "frame", "mark"), NOTHING),
    **dict.fromkeys(("size", "place"), USUAL),
}
"""Attribute name to the value that draws nothing of it."""

WORLD: Mapping[str, tuple[str, ...]] = {
    **ATTRIBUTES,
    "size": SIZES,
    "place": PLACES,
    "pattern": PATTERNS,
    "frame": FRAMES,
}
"""Attribute name to its values, in the world that the recipe makes; without marks, which its training never shows."""

GROUPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "object": {
        "animal": ("fish", "bird"),
        "plant": ("tree", "mushroom"),
        "vehicle": ("boat", "car"),
        "building": ("house",),
        "symbol": ("star",),
        "being": ("fish", "bird", "tree", "mushroom"),
        "artefact": ("boat", "car", "house", "star"),
    },
    "colour": {
        "warm": ("red", "yellow"),
        "cold": ("green", "blue", "purple"),
        "pale": ("white",),
        "vivid": ("red", "yellow", "green", "blue", "purple"),
    },
    "background": {
        "land": ("grass", "desert", "snow"),
        "water": ("sea",),
        "sky": ("night",),
        "day": ("grass", "desert", "snow", "sea"),
    },
}
"""Attribute name to its group words and what each may mean, on two levels: a being is an animal or a plant."""

GRAMMAR = ("a", "on", "with", "picture", "of", "texture", "shape")
VOCABULARY = tuple(dict.fromkeys((*GRAMMAR, *(word for values in ATTRIBUTES.values() for word in values))))
"""Every whole word that captions of the shipped world use; see ``grammar.VOCABULARY`` for the world of the recipe."""

STYLES = ("scene", "texture", "shape")
"""What a picture is: a whole scene, a surface that fills the frame ("a texture of"), or a silhouette ("a shape of")."""

_STYLE_SHARES = (0.95, 0.02, 0.03)
_TEXTURE_SHARES = (0.6, 0.2, 0.2)
_EMPTY_OBJECT_SHARE = 0.05
_EMPTY_COMPANION_SHARE = 0.2
_FULL_CAPTION_SHARE = 0.5
_MENTION_SHARE = 0.6
_PREFIX_SHARE = 0.1


def draw_attributes(rng: np.random.Generator) -> dict[str, str]:
    """Draw one independent value for every attribute, and a style, with the shares of the training scenes."""
    pick = {name: str(rng.choice(values)) for name, values in ATTRIBUTES.items() if name != "texture"}
    pick["texture"] = str(rng.choice(TEXTURES, p=_TEXTURE_SHARES))
    if rng.random() < _EMPTY_OBJECT_SHARE:
        pick["object"] = NOTHING
    if rng.random() < _EMPTY_COMPANION_SHARE:
        pick["companion"] = NOTHING
    pick["style"] = str(rng.choice(STYLES, p=_STYLE_SHARES)) if pick["object"] != NOTHING else "scene"
    return pick


def caption(attributes: Mapping[str, str]) -> str:
    """Return the full caption of a scene, a texture or a shape: what is there and has a word is said."""
    return _phrase(attributes, mentioned=set(WORLD) - ({"texture"} if attributes["texture"] == "plain" else set()))


def varied_caption(attributes: Mapping[str, str], rng: np.random.Generator) -> str:
    """Return a caption as people write them: half of the time full, otherwise silent about some attributes.

    A plain surface is seldom mentioned, and one caption in ten begins with "a picture of".
    """
    if rng.random() < _FULL_CAPTION_SHARE:
        mentioned = set(ATTRIBUTES)
    else:
        mentioned = {name for name in ATTRIBUTES if rng.random() < _MENTION_SHARE}
    if attributes["texture"] == "plain" and rng.random() < _MENTION_SHARE:
        mentioned.discard("texture")
    text = _phrase(attributes, mentioned)
    return f"a picture of {text}" if attributes["style"] == "scene" and rng.random() < _PREFIX_SHARE else text


def _phrase(attributes: Mapping[str, str], mentioned: set[str]) -> str:
    def say(name: str) -> str | None:
        value = attributes.get(name, NOTHING)
        return value if name in mentioned and value not in (NOTHING, USUAL) else None

    if attributes["style"] == "texture":
        return " ".join(["a texture of", attributes["colour"], attributes["texture"]])
    if attributes["style"] == "shape":
        return f"a shape of {attributes['object']}"
    thing = " ".join(word for word in (say("size"), say("colour"), say("texture"), say("object")) if word)
    where = f" at {say('place')}" if say("place") else ""
    parts = [f"a {thing}{where}" if say("object") else "", say("background") or ""]
    text = " on ".join(part for part in parts if part)
    companion = say("companion")
    if companion:
        text = f"{text} with {companion}" if text else f"a {companion}"
    return text or "a picture"


def values_of(name: str) -> tuple[str, ...]:
    """Return the values of an attribute as the arrays number them; the value of absence comes last where there is one.

    That is "nothing" for an object, companion, pattern, frame or mark, and "usual" for a size or place.
    """
    if name == "style":
        return STYLES
    values = MARKS if name == "mark" else WORLD[name]
    return (*values, ABSENCE[name]) if name in ABSENCE else values
