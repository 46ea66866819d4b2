"""Counterfactual scenes of one layout: every attribute takes every value, all else equal, and a classifier answers."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffexplain_fast.recipe.data import as_pixels, render_given
from diffexplain_fast.recipe.processes import in_processes
from diffexplain_fast.tinyworld.words import ABSENCE, OBJECTS, WORLD, draw_attributes, values_of

GROUPS = (*WORLD, "mark")
"""Attributes whose values are compared."""
ROWS = tuple((name, value) for name in GROUPS for value in values_of(name))
"""Every attribute and value, group after group."""
_BATCH = 64
_ASKED = tuple(name for name in WORLD if name not in ("pattern", "frame"))
"""Attributes whose values a caption can name."""


class Layout(NamedTuple):
    """The scenes of one seed.

    Attributes:
        object: index in ``OBJECTS`` of the object of every scene that does not say another.
        pictures: uint8 [P, 3, 64, 64], every picture once.
        rows: for every one of ``ROWS`` the index of its picture; a value that the drawn scene has is that scene.
    """

    object: int
    pictures: Tensor
    rows: list[int]


def drawn(seed: int, turn: int, even: bool = False, varied: Sequence[str] = ()) -> dict[str, str]:
    """Return the scene of a seed that the counterfactuals are made from; its object goes by turns.

    Args:
        seed: decides the other attributes.
        turn: number of the object.
        even: draw every value that a caption can name equally often, as an audit does; else with the shares of the
            training scenes, which have the usual size and place.
        varied: of ``GROUPS``, attributes that take every value equally often, absence among them, whatever ``even``.
            Each is drawn by itself, so that the others stay what they are without it.
    """
    rng = np.random.default_rng([seed, 0])
    scene = {name: str(rng.choice(values_of(name))) for name in _ASKED} if even else draw_attributes(rng)
    others = {name: _any_value(name, seed) for name in varied}
    return {**ABSENCE, **scene, **others, "style": "scene", "object": OBJECTS[turn % len(OBJECTS)]}


def _any_value(name: str, seed: int) -> str:
    return str(np.random.default_rng([seed, 7, GROUPS.index(name)]).choice(values_of(name)))


def rendered(scenes: list[dict[str, str]], seed: int) -> Tensor:
    """Return pictures uint8 [N, 3, 64, 64] of scenes that share the layout of a seed."""
    return render_given(scenes, [seed] * len(scenes)).pixels


def layouts(seeds: range, even: bool = False, varied: Sequence[str] = ()) -> Iterator[Layout]:
    """Return the scenes of every seed, one seed after another, rendered by several processes; see ``drawn``."""
    for turn, (pictures, rows) in enumerate(
        in_processes(partial(_layout, even, tuple(varied)), list(enumerate(seeds)))
    ):
        yield Layout(turn % len(OBJECTS), torch.from_numpy(pictures), rows)


def _layout(even: bool, varied: tuple[str, ...], given: tuple[int, int]) -> tuple[np.ndarray, list[int]]:
    turn, seed = given
    base = drawn(seed, turn, even, varied)
    scenes, rows = [base], []
    for name, value in ROWS:
        rows.append(0 if base[name] == value else len(scenes))
        scenes += [] if base[name] == value else [base | {name: value}]
    return rendered(scenes, seed).numpy(), rows


@torch.no_grad()
def answers(ask: Callable[[Tensor], Tensor], pictures: Tensor, device: torch.device) -> np.ndarray:
    """Return what ``ask`` says of pictures, uint8 [P, 3, 64, 64], as float64 [P, ...]."""
    found = [ask(as_pixels(part, device)).double().cpu() for part in pictures.split(_BATCH)]
    return torch.cat(found).numpy()
