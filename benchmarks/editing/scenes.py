"""Scenes with known truth: their pictures, every change of one attribute, and the picture as it truly is then."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffexplain_fast.editing.pictures import as_pixels
from diffexplain_fast.recipe.classifiers import SHIPPED
from diffexplain_fast.tinyworld.grammar import draw_world
from diffexplain_fast.tinyworld.render import SIZE, draw_scene
from diffexplain_fast.tinyworld.rewording import WorldWording
from diffexplain_fast.tinyworld.words import ABSENCE, NOTHING, OBJECTS, draw_attributes

FIRST_SEED = 6_000_000
_VISIBLE = 4 / 255


class TrueScene(NamedTuple):
    """A rendered scene.

    Attributes:
        seed: of its layout.
        attributes: attribute to value.
        pixels: [3, 64, 64].
        caption: as the pipeline's captions say it.
    """

    seed: int
    attributes: dict[str, str]
    pixels: Tensor
    caption: str


def true_scenes(count: int, words: list[str], first: int = FIRST_SEED) -> list[TrueScene]:
    """Return scenes with an object, which no training has seen; of the harder world where the pipeline knows its words.

    Args:
        count: of the scenes.
        words: that the pipeline knows.
        first: seed of the first scene; those without an object are passed over.
    """
    harder, found, seed = NOTHING in words, [], first
    while len(found) < count:
        rng = np.random.default_rng([seed, 0])
        attributes = draw_world(rng) | {"pattern": NOTHING, "frame": NOTHING} if harder else draw_attributes(rng)
        if attributes["object"] in OBJECTS:
            attributes |= {"style": "scene"}
            caption = WorldWording(words).changed("", attributes)
            found.append(TrueScene(seed, attributes, picture(seed, attributes), caption))
        seed += 1
    return found


def question(i: int, scene: TrueScene) -> tuple[str, str]:
    """Return the shipped classifier and the label that are asked about the i-th scene; all take turns."""
    names = sorted(SHIPPED)
    name = names[i % len(names)]
    labels = [*SHIPPED[name], scene.attributes["object"]]
    return name, labels[i // len(names) % len(labels)]


def picture(seed: int, attributes: dict[str, str]) -> Tensor:
    """Return a scene as it truly looks, [3, 64, 64]."""
    image, _ = draw_scene({**ABSENCE, **attributes}, seed)
    return as_pixels(image, (SIZE, SIZE))[0]


def kind_of(name: str, old: str, new: str) -> str:
    """Return the kind of a change, such as "companion add"."""
    if name not in ("object", "companion"):
        return name
    return f"{name} {'add' if old == NOTHING else 'remove' if new == NOTHING else 'swap'}"


def outside(scene: TrueScene, truth: Tensor, edited: Tensor) -> float:
    """Return the mean change, in steps of 255, of the pixels that do not truly change, two pixels around left out."""
    region = (truth - scene.pixels).abs().amax(0, keepdim=True) > _VISIBLE
    region = torch.nn.functional.max_pool2d(region.float()[None], 5, 1, 2)[0, 0] > 0
    change = 255 * (edited - scene.pixels).abs().mean(0)[~region]
    return float(change.mean()) if change.numel() else 0.0
