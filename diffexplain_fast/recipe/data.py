"""The training scenes: rendered once from seeds, kept as arrays in the build folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from diffexplain_fast.recipe.processes import in_processes
from diffexplain_fast.tinyworld.grammar import draw_world
from diffexplain_fast.tinyworld.render import SIZE, draw_scene
from diffexplain_fast.tinyworld.words import ABSENCE, ATTRIBUTES, WORLD, draw_attributes, values_of

TRAIN_SEEDS = range(0, 30_000)
PROBE_SEEDS = range(100_000, 124_000)
"""Scenes of the judge, which no other model has learnt from."""
HELD_OUT_SEEDS = range(1_000_000, 1_002_000)
ELEMENTS = (*ATTRIBUTES["background"], *ATTRIBUTES["object"], *ATTRIBUTES["companion"])
"""Names of what a pixel can belong to, in the order of the label maps; pixels without one, as of a frame, have 255."""
NO_ELEMENT = 255
_AT_ONCE = 250
"""Scenes that one process renders at a time."""

Draw = Callable[[np.random.Generator], dict[str, str]]
"""How the attributes of a scene are drawn."""


_Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The fields of ``Scenes`` as arrays."""
COLUMNS = (*WORLD, "style")
"""The columns of ``Scenes.codes``."""


class Scenes(NamedTuple):
    """Rendered scenes as arrays.

    Attributes:
        pixels: uint8 tensor [N, 3, 64, 64].
        codes: uint8 array [N, 10], the index in ``values_of(column)`` for every one of ``COLUMNS``.
        elements: uint8 tensor [N, 64, 64], the index in ``ELEMENTS`` of every pixel.
    """

    pixels: torch.Tensor
    codes: np.ndarray
    elements: torch.Tensor

    def attributes(self, index: int) -> dict[str, str]:
        """Return the attributes of one scene by their words."""
        return {name: values_of(name)[code] for name, code in zip(COLUMNS, self.codes[index], strict=True)}

    def column(self, name: str) -> torch.Tensor:
        """Return one attribute of every scene as int64 codes [N]."""
        return torch.from_numpy(self.codes[:, COLUMNS.index(name)].astype(np.int64))


def render_scenes(seeds: range, draw: Draw = draw_attributes) -> Scenes:
    """Render the scenes of a range of seeds, attributes drawn independently, by default those of the shipped world."""
    return render_given([draw(np.random.default_rng([seed, 0])) for seed in seeds], list(seeds))


def render_given(attributes: list[dict[str, str]], seeds: list[int]) -> Scenes:
    """Render scenes whose attributes are given; what is left out of size, place, pattern and frame is not there.

    Many scenes are rendered by several processes: a scene depends on nothing but its attributes and its seed.
    """
    starts = range(0, len(seeds), _AT_ONCE)
    parts = [(attributes[i : i + _AT_ONCE], seeds[i : i + _AT_ONCE]) for i in starts]
    return _joined(list(in_processes(_rendered, parts)) if len(parts) > 1 else [_rendered((attributes, seeds))])


def _rendered(given: tuple[list[dict[str, str]], list[int]]) -> _Arrays:
    attributes, seeds = given
    count = len(seeds)
    pixels = np.empty((count, SIZE, SIZE, 3), np.uint8)
    codes = np.empty((count, len(COLUMNS)), np.uint8)
    elements = np.full((count, SIZE, SIZE), NO_ELEMENT, np.uint8)
    for i, (scene, seed) in enumerate(zip(attributes, seeds, strict=True)):
        chosen = {**ABSENCE, **scene}
        image, masks = draw_scene(chosen, seed)
        pixels[i] = np.asarray(image)
        codes[i] = [values_of(name).index(chosen[name]) for name in COLUMNS]
        for name, mask in masks.items():
            if name in ELEMENTS:
                elements[i][mask] = ELEMENTS.index(name)
    return pixels.transpose(0, 3, 1, 2), codes, elements


def cached_scenes(folder: Path, seeds: range) -> Scenes:
    """Render the recipe's world for a range of seeds, or read what an earlier run has left in ``folder``."""
    path = folder / f"world-{seeds.start}-{seeds.stop}.npz"
    if not path.exists():
        scenes = render_scenes(seeds, draw_world)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, pixels=scenes.pixels.numpy(), codes=scenes.codes, elements=scenes.elements.numpy())
        partial.replace(path)
        return scenes
    with np.load(path, allow_pickle=False) as file:
        pixels, codes, elements = file["pixels"], file["codes"], file["elements"]
    return Scenes(torch.from_numpy(pixels), codes, torch.from_numpy(elements))


def _joined(parts: Sequence[_Arrays]) -> Scenes:
    pixels, codes, elements = (
        arrays[0] if len(parts) == 1 else np.concatenate(arrays) for arrays in zip(*parts, strict=True)
    )
    return Scenes(torch.from_numpy(pixels), codes, torch.from_numpy(elements))


def as_pixels(images: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    """Turn uint8 pictures into float pixels in [0, 1] on a device, by default their own."""
    return images.to(device).float().div_(255)
