"""How an eye errs: what it sees in rendered pictures of the tiny world, whose content is known."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.eyes import Eye, eye_of
from diffexplain_fast.evidence.phrases import Phrases
from diffexplain_fast.recipe.data import as_pixels, render_given
from diffexplain_fast.tinyworld.words import NOTHING, OBJECTS, draw_attributes

LEAST_SINGULAR = 0.3
"""Smallest singular value of a group's matrix of errors with which the eye is believed: below it the eye hardly tells
values apart, and undoing its errors would blow up chance."""
_EACH, _BATCH, _SEED = 16, 32, 3_000_000
"""Rendered pictures of each value of the largest group; seeds that no model has learnt from."""


@dataclass(frozen=True)
class Errors:
    """An eye's errors in one group.

    Attributes:
        places: of the values that the eye can see, among the concepts.
        matrix: float [seen, true], P(seen | true) of these values.
    """

    places: np.ndarray
    matrix: np.ndarray

    @property
    def believed(self) -> bool:
        """Whether the eye tells the values apart."""
        return bool(self.matrix.size) and bool(np.linalg.svd(self.matrix, compute_uv=False)[-1] >= LEAST_SINGULAR)

    def whole(self, values: int) -> bool:
        """Return whether the eye sees all values of a group of so many, and tells them apart."""
        return len(self.places) == values and self.believed

    def undone(self, seen: np.ndarray) -> np.ndarray:
        """Return true shares of values from the shares that the eye sees, [values]; they may lie beyond [0, 1]."""
        return np.asarray(np.linalg.solve(self.matrix, seen))


@dataclass(frozen=True)
class Sight:
    """An eye, and what is known of its errors.

    Attributes:
        look: the eye.
        name: what results call the eye.
        errors: in every group; None where they are not known, and the eye is believed as it is.
        fingerprint: tells an eye of the user's own from others, see ``eyes.fingerprint_of``; None for one that ships.
    """

    look: Eye
    name: str
    errors: list[Errors] | None
    fingerprint: str | None = None

    def among(self, concepts: Concepts, left: Concepts) -> "Sight":
        """Return the same eye for some of the concepts: all groups, and some of the free words.

        Args:
            concepts: what this eye looks for.
            left: what is left of them.
        """
        if concepts.names == left.names:
            return self
        look, places = self.look, [concepts.names.index(name) for name in left.names]
        return replace(self, look=lambda pixels: look(pixels)[:, places])  # groups come first, so errors keep places


def sight_of(concepts: Concepts, phrases: Phrases, folder: Path | None = None) -> Sight | None:
    """Return the eye that ships, with its errors; None where the concepts are not the tiny world's.

    Args:
        concepts: what is looked for.
        phrases: how concepts are said.
        folder: where the eye keeps what it writes of pictures; None for nowhere.
    """
    eye = eye_of(concepts, phrases, folder)
    return None if eye is None else Sight(eye, eye.name, errors_in_tiny_world(eye, concepts))


def errors_in_tiny_world(eye: Eye, concepts: Concepts) -> list[Errors]:
    """Return the errors of an eye in every group of concepts of the tiny world; [] where there are free words only.

    Args:
        eye: sees concepts in pixels.
        concepts: attributes of the tiny world.
    """
    if not concepts.groups:
        return []
    rng = np.random.default_rng(_SEED)
    count = _EACH * max(len(values) for values in concepts.groups.values())
    scenes = [draw_attributes(rng) | {"style": "scene"} for _ in range(count)]
    for i, scene in enumerate(scenes):
        if scene["object"] == NOTHING:  # an empty place has no colour
            scene["object"] = OBJECTS[i % len(OBJECTS)]
    for group, values in concepts.groups.items():
        for scene, value in zip(scenes, rng.permutation(np.arange(count) % len(values)).tolist(), strict=True):
            scene[group] = values[value]
    pictures = render_given(scenes, [_SEED + i for i in range(count)]).pixels
    batches = [pictures[i : i + _BATCH] for i in range(0, count, _BATCH)]
    parts = [eye(as_pixels(part, torch.device("cpu"))) for part in batches]
    seen, found, start = np.concatenate(parts), [], 0
    for group, values in concepts.groups.items():
        own = seen[:, start : start + len(values)]
        visible = np.array([i for i, value in enumerate(values) if not np.isnan(own[:, i]).any()], dtype=np.int64)
        true = np.array([values.index(scene[group]) for scene in scenes])
        shares = [own[true == value][:, visible].mean(0) for value in visible]
        found.append(Errors(start + visible, np.stack(shares, 1) if len(visible) else np.zeros((0, 0))))
        start += len(values)
    return found
