"""Segments of one picture pasted into another: the thing that is there is taken away, then the donor's is put in."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.shipped import Ask, Segment
from diffexplain_fast.methods.photographs.given import Given, batches, share_of
from diffexplain_fast.taxonomy import usual_name

_STUFF = "background"
"""Group whose values fill a region of the picture; the region stays, and its content is replaced."""
_NO_REGION = frozenset(("colour", "texture", "size", "place", "pattern", "frame", "style"))
"""Groups whose values are nowhere by themselves."""
_LEAST = 0.004
"""Share of the picture below which a region is not there."""
_SOFT = 1.5
"""Width in pixels of the blur of what is filled in."""


@dataclass(frozen=True)
class Regions:
    """Where each picture shows its own value of a group.

    Attributes:
        group: number of the group.
        stuff: whether the values fill a region.
        masks: bool [N, 1, H, W]; empty where no value is seen.
        value: int [N], the value that a picture can give, -1 for none.
    """

    group: int
    stuff: bool
    masks: Tensor
    value: np.ndarray


def pastable(concepts: Concepts) -> list[int]:
    """Return the numbers of the groups whose values have a region in a picture."""
    return [i for i, name in enumerate(concepts.groups) if usual_name(name) not in _NO_REGION]


def regions_of(given: Given, concepts: Concepts, seen: np.ndarray, group: int, segment: Segment, ask: Ask) -> Regions:
    """Return where every picture shows its own value of a group.

    Args:
        given: the pictures.
        concepts: what is looked for.
        seen: from ``Given.seen``.
        group: number of the group.
        segment: finds regions.
        ask: says what a segmenter is asked for.
    """
    name, values = list(concepts.groups.items())[group]
    texts = {place: ask(values[place], name) for place in set(seen[:, group].tolist()) if place >= 0}
    masks = torch.zeros_like(given.pixels[:, :1], dtype=torch.bool)
    places = [i for i, value in enumerate(seen[:, group].tolist()) if texts.get(value) is not None]
    for part in batches(places):
        masks[part] = segment(given.pixels[part], [texts[int(seen[i, group])] or "" for i in part]).bool()
    there = share_of(masks) >= _LEAST
    return Regions(group, usual_name(name) == _STUFF, masks, np.where(there, seen[:, group], -1))


def filled(pixels: Tensor, hole: Tensor) -> Tensor:
    """Return a picture whose hole has the colours of its edge: of the nearest pixel outside, blurred a little.

    Args:
        pixels: [3, H, W].
        hole: bool [1, H, W]; a hole that is everything is left as it is.
    """
    mask = hole[0].cpu().numpy()
    if not mask.any() or mask.all():
        return pixels
    ndimage = importlib.import_module("scipy.ndimage")  # a tenth of a second that only pasting takes
    rows, columns = ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True)
    nearest = pixels.cpu().numpy()[:, rows, columns]
    soft = ndimage.gaussian_filter(nearest, (0, _SOFT, _SOFT))
    return torch.from_numpy(np.where(mask, soft, nearest)).to(pixels)


class Paster:
    """Pastes values of one group; fills every picture once.

    Args:
        given: the pictures.
        regions: of the group.
    """

    def __init__(self, given: Given, regions: Regions) -> None:
        self._pixels, self._regions = given.pixels, regions
        self._kept: dict[tuple[int, bool], Tensor] = {}

    def __call__(self, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """Return pictures with a donor's segment in them, [B, 3, H, W].

        Args:
            pairs: number of a picture and of its donor.
        """
        return torch.stack([self._one(picture, donor) for picture, donor in pairs])

    def _one(self, picture: int, donor: int) -> Tensor:
        mask = self._regions.masks[picture]
        if self._regions.stuff:
            return torch.where(mask, self._spread(donor, outside=True), self._pixels[picture])
        theirs = self._regions.masks[donor]
        return torch.where(theirs, self._pixels[donor], self._spread(picture, outside=False))

    def _spread(self, number: int, outside: bool) -> Tensor:
        """Return a picture all of whose region's content is spread over the rest, or that has no region any more."""
        key = (number, outside)
        if key not in self._kept:
            mask = self._regions.masks[number]
            self._kept[key] = filled(self._pixels[number], ~mask if outside else mask)
        return self._kept[key]


def donors_of(value: np.ndarray, wanted: int, pictures: Sequence[int], rng: np.random.Generator) -> list[int] | None:
    """Return a donor of a value for every picture, each about equally often and none for itself.

    Args:
        value: from ``Regions``.
        wanted: the value.
        pictures: numbers of the pictures.
        rng: of the order.

    Returns:
        Numbers of donors; None where fewer than two pictures show the value.
    """
    able = np.flatnonzero(value == wanted)
    if len(able) < 2:
        return None
    rounds = -(-len(pictures) // len(able))
    order = np.concatenate([rng.permutation(able) for _ in range(rounds)])[: len(pictures)].tolist()
    pairs = zip(order, pictures, strict=True)
    return [donor if donor != own else int(rng.choice(able[able != own])) for donor, own in pairs]
