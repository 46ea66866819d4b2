"""Things that an edit only puts elsewhere or makes smaller: their own pixels, because drawn again they are others.

Making a thing larger needs detail that its own pixels do not have: it stays as the generator has drawn it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffexplain_fast.methods.diffex.kinds import kind_of
from diffexplain_fast.methods.diffex.layers import Layer, difference, layer_of, layers_record
from diffexplain_fast.methods.diffex.regions import Regions
from diffexplain_fast.methods.diffex.scene import Job, Scene
from diffexplain_fast.records import JsonObject

_ALONG = 2.0
"""A thing that moves so many times further along one axis than along the other moves along that one only."""
_OUTER = 0.05
"""Share of a region's pixels that count as its outermost, on each side."""
_CLEAR = 0.25
"""Difference to what is behind it of a pixel that clearly is part of a thing, of 0 to 1."""
FEWEST = 4
"""Pixels of a region in which there is a thing to be moved."""
Without = Callable[[Scene, str], Tensor]
"""A scene and one of its categories to the scene [3, H, W] without that thing."""


class Moving:
    """Puts things where the generator has drawn them, or makes them as small as it has.

    Args:
        regions: of words in pictures.
        without: gives a scene without one of its things.
        asked: one of ``kinds.EDITORS``; an editor that a caller asked for by name draws whatever it edits.
    """

    def __init__(self, regions: Regions, without: Without, asked: str) -> None:
        self._regions, self._without, self._automatic = regions, without, asked == "auto"

    def part(self, job: Job) -> str | None:
        """Return the category of the thing that is moved or made smaller for a job; None where all is drawn."""
        return part_moved(job) if self._automatic and self._regions.known else None

    def put(self, scene: Scene, jobs: Sequence[Job], edited: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Return edited pictures and where they may differ from the scene, things moved or smaller where that is all.

        A thing is taken from the picture as the autoencoder gives it, because an effect is measured against that one.
        Where no segmenter finds it in both pictures it stays as it was drawn. Only a thing that gets smaller, and is
        drawn too badly to be found, is where the pictures clearly differ from the one without it. What grows stays as
        it was drawn.

        Args:
            scene: the picture.
            jobs: B jobs.
            edited: their pictures [B, 3, H, W], as the generator has drawn them.
            masks: where they may differ, bool [B, 1, H, W].
        """
        found, masks = edited.clone(), masks.clone()
        for i, job in enumerate(jobs):
            part = self.part(job)
            if part is None:
                continue
            picture, region = scene.decoded[0].clamp(0, 1), self._regions.of(scene, part)[0]
            old, new, behind = region, self._regions.seen(scene, part, edited[i : i + 1])[0], None
            if _resizes(job) and int(new.sum()) < FEWEST <= int(old.sum()):
                behind = self._without(scene, part)
                old, new = (masks[i] & (difference(one, behind) > _CLEAR) for one in (picture, edited[i]))
            changed = _changed(job, old, new)
            if changed is not None:
                behind = self._without(scene, part) if behind is None else behind
                thing = layer_of(picture, behind, region)
                there = changed(thing)
                found[i], masks[i] = there.over(behind).clamp(0, 1), thing.mask() | there.mask()
        return found, masks


def moving_record() -> JsonObject:
    """Return all constants of a move; JSON values."""
    return layers_record() | {"along": _ALONG, "outer": _OUTER, "clear": _CLEAR, "fewest": FEWEST}


def part_moved(job: Job) -> str | None:
    """Return the category of the thing that a job moves or makes smaller; None for a job that does anything else."""
    kinds = [kind_of(category) for category in job.changes]
    return kinds[0].parts[0] if len(kinds) == 1 and (kinds[0].moves or kinds[0].resizes) else None


def _resizes(job: Job) -> bool:
    return all(kind_of(category).resizes for category in job.changes)


def _changed(job: Job, old: Tensor, new: Tensor) -> Callable[[Layer], Layer] | None:
    """Return what becomes of a job's thing; None where it has to be drawn."""
    if min(int(old.sum()), int(new.sum())) < FEWEST:
        return None
    if not _resizes(job):
        shift = shift_between(old, new)
        return lambda thing: thing.shifted(*shift)
    scale, middle = scale_between(old, new), _middle(old)
    return None if scale >= 1 else lambda thing: thing.smaller(scale, *middle)


def shift_between(old: Tensor, new: Tensor) -> tuple[int, int]:
    """Return how many pixels a thing goes to the right and downwards.

    Args:
        old: where the thing is, bool [1, H, W].
        new: where the generator has drawn it.
    """
    (old_x, old_y), (new_x, new_y) = _middle(old), _middle(new)
    x, y = round(new_x - old_x), round(new_y - old_y)
    return (x if abs(y) <= _ALONG * abs(x) else 0), (y if abs(x) <= _ALONG * abs(y) else 0)


def scale_between(old: Tensor, new: Tensor) -> float:
    """Return the new width and height of a thing over the old ones, by the pixels that it covers.

    Args:
        old: where the thing is, bool [1, H, W].
        new: where the generator has drawn it.
    """
    return float((new.sum() / old.sum()).sqrt())


def _middle(region: Tensor) -> tuple[float, float]:
    """Return the middle (x, y) of a region bool [1, H, W], from end to end without its outermost pixels.

    A few pixels that a segmenter takes for a part of the thing do not move it.
    """
    rows, columns = (index.double() for index in region[0].nonzero(as_tuple=True))
    x, y = ((torch.quantile(index, _OUTER) + torch.quantile(index, 1 - _OUTER)) / 2 for index in (columns, rows))
    return float(x), float(y)
