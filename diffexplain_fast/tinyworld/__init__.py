"""A small procedural picture world with known truth, and the models that were trained on it."""

from typing import TYPE_CHECKING

from diffexplain_fast.lazy import lazily
from diffexplain_fast.tinyworld.render import SIZE, Scene, render
from diffexplain_fast.tinyworld.store import (
    classifier_names,
    load_clip,
    load_probe,
    load_segmenter,
    name_attributes,
    pipeline_folder,
)
from diffexplain_fast.tinyworld.words import (
    BACKGROUNDS,
    COLOURS,
    COMPANIONS,
    FRAMES,
    GROUPS,
    MARKS,
    OBJECTS,
    PATTERNS,
    PLACES,
    SIZES,
    TEXTURES,
)

if TYPE_CHECKING:
    from diffexplain_fast.recipe.making import load_classifier, make_classifier, units

# fmt: off
__all__ = [
    "BACKGROUNDS", "COLOURS", "COMPANIONS", "FRAMES", "GROUPS", "MARKS", "OBJECTS", "PATTERNS", "PLACES", "SIZE",
    "SIZES", "TEXTURES", "Scene", "classifier_names", "load_classifier", "load_clip", "load_probe", "load_segmenter",
    "make_classifier", "name_attributes", "pipeline_folder", "render", "units",
]
# fmt: on

__getattr__ = lazily(__name__, dict.fromkeys(("load_classifier", "make_classifier", "units"), "recipe.making"))
