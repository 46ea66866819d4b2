"""A taxonomy of more than 200 leaves: the tiny world's words, and phrases of its grammar below group words."""

from collections.abc import Sequence
from typing import Any

from diffexplain_fast.taxonomy import Taxonomy
from diffexplain_fast.tinyworld.rewording import world_taxonomy
from diffexplain_fast.tinyworld.words import BACKGROUNDS, COLOURS, COMPANIONS, GROUPS, NOTHING, OBJECTS, SIZES, TEXTURES

_GROUPS = {
    "object": ("animal", "plant", "artefact"),
    "colour": ("warm", "cold", "pale"),
    "background": ("land", "water", "sky"),
}
"""Group words that have each value once."""


def leaves(words: Sequence[str]) -> Taxonomy:
    """Return the taxonomy: the words of the world, and phrases of two and three of them below group words.

    Args:
        words: that the pipeline knows.
    """

    def below(name: str, phrases: dict[str, list[str]]) -> dict[str, Any]:
        return {group: {value: phrases[value] for value in GROUPS[name][group]} for group in _GROUPS[name]}

    single = world_taxonomy(words).to_json()
    companions = (*COMPANIONS, NOTHING)
    return Taxonomy(
        {
            **single["categories"],
            "surface": below("colour", {c: [f"{c} {t}" for t in TEXTURES] for c in COLOURS}),
            "coloured thing": below("object", {o: [f"a {c} {o}" for c in COLOURS] for o in OBJECTS}),
            "scenery": below("background", {b: [f"{b} with {c}" for c in companions] for b in BACKGROUNDS}),
            "colour in a place": below("colour", {c: [f"{c} on {b}" for b in BACKGROUNDS] for c in COLOURS}),
            "look": {
                size: below("colour", {c: [f"a {size} {c} thing on {b}" for b in BACKGROUNDS] for c in COLOURS})
                for size in SIZES
            },
        },
        domain="tiny world, phrases too",
    )
