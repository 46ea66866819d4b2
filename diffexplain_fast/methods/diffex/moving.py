"""Things that an edit only puts elsewhere: their own pixels are moved, because a small thing is drawn badly again."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from diffexplain_fast.editing.latents import grown
from diffexplain_fast.methods.diffex.kinds import kind_of
from diffexplain_fast.methods.diffex.regions import Regions
from diffexplain_fast.methods.diffex.scene import Job, Scene
from diffexplain_fast.records import JsonObject

_EDGE = 2
"""Pixels by which a segmenter's edge may be wrong."""
_VISIBLE = 0.06
"""Least difference to what is behind it of a pixel that is part of a thing, of 0 to 1."""
_ALONG = 2.0
"""A thing that moves so many times further along one axis than along the other moves along that one only."""
_OUTER = 0.05
"""Share of a region's pixels that count as its outermost, on each side."""
_FEWEST = 4
"""Pixels of a region in which there is a thing to be moved."""
Without = Callable[[Scene, str, Sequence[Job], Tensor], Tensor]
"""A scene, one of its categories, and jobs with their pictures, to the scene [3, H, W] without that thing."""


class Layer(NamedTuple):
    """A thing of a picture, as Porter & Duff ("Compositing digital images", 1984) put one over another.

    Attributes:
        colours: [3, H, W], multiplied by the opacity.
        opacity: how much of every pixel the thing covers, [1, H, W], 0 to 1.
    """

    colours: Tensor
    opacity: Tensor

    def over(self, behind: Tensor) -> Tensor:
        """Return the picture [3, H, W] of the thing before something else."""
        return self.colours + (1 - self.opacity) * behind

    def shifted(self, x: int, y: int) -> "Layer":
        """Return the thing so many pixels further to the right and downwards; what leaves the picture is lost."""
        height, width = self.opacity.shape[-2:]
        around = pad(torch.cat(self), (abs(x), abs(x), abs(y), abs(y)))
        found = around[:, abs(y) - y : abs(y) - y + height, abs(x) - x : abs(x) - x + width]
        return Layer(found[:3], found[3:])

    def mask(self) -> Tensor:
        """Return where the thing is and a pixel around it, bool [1, H, W], because the edge of a mask is soft."""
        return grown((self.opacity > 0)[None], 1)[0].bool()


class Moving:
    """Puts things where the generator has drawn them.

    Args:
        regions: of words in pictures.
        without: gives a scene without one of its things.
        asked: one of ``kinds.EDITORS``; an editor that a caller asked for by name draws whatever it edits.
    """

    def __init__(self, regions: Regions, without: Without, asked: str) -> None:
        self._regions, self._without, self._automatic = regions, without, asked == "auto"

    def part(self, job: Job) -> str | None:
        """Return the category of the thing that is put elsewhere for a job; None where all is as it was drawn."""
        return part_moved(job) if self._automatic and self._regions.known else None

    def put(self, scene: Scene, jobs: Sequence[Job], edited: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Return edited pictures and where they may differ from the scene, with things moved where that is all.

        A thing is taken from the picture as the autoencoder gives it, because an effect is measured against that one.
        Where no segmenter finds it in both pictures it stays as it was drawn.

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
            region = self._regions.of(scene, part)[0]
            shift = shift_between(region, self._regions.seen(scene, part, edited[i : i + 1])[0])
            if shift is not None:
                behind = self._without(scene, part, jobs, edited)
                thing = layer_of(scene.decoded[0].clamp(0, 1), behind, region)
                there = thing.shifted(*shift)
                found[i], masks[i] = there.over(behind).clamp(0, 1), thing.mask() | there.mask()
        return found, masks


def moving_record() -> JsonObject:
    """Return all constants of a move; JSON values."""
    return {"edge": _EDGE, "visible": _VISIBLE, "along": _ALONG, "outer": _OUTER, "fewest": _FEWEST}


def part_moved(job: Job) -> str | None:
    """Return the category of the thing that a job moves; None for a job that does anything else."""
    kinds = [kind_of(category) for category in job.changes]
    return kinds[0].parts[0] if len(kinds) == 1 and kinds[0].moves else None


def shift_between(old: Tensor, new: Tensor) -> tuple[int, int] | None:
    """Return how many pixels a thing goes to the right and downwards; None where it is hardly there.

    Args:
        old: where the thing is, bool [1, H, W].
        new: where the generator has drawn it.
    """
    if min(int(old.sum()), int(new.sum())) < _FEWEST:
        return None
    (old_x, old_y), (new_x, new_y) = _middle(old), _middle(new)
    x, y = round(new_x - old_x), round(new_y - old_y)
    return (x if abs(y) <= _ALONG * abs(x) else 0), (y if abs(x) <= _ALONG * abs(y) else 0)


def layer_of(pixels: Tensor, behind: Tensor, region: Tensor) -> Layer:
    """Return a thing of a picture.

    A pixel at the edge is covered as much as it differs from what is behind, compared with the pixels around.

    Args:
        pixels: the picture [3, H, W].
        behind: the same picture without the thing [3, H, W].
        region: where a segmenter finds it, bool [1, H, W].
    """
    inside = 1 - grown(1 - region.float()[None], _EDGE)[0]
    differs = (pixels - behind).abs().amax(0, keepdim=True)
    most = max_pool2d(differs[None], 2 * _EDGE + 1, 1, _EDGE)[0]
    seen = torch.where(differs > _VISIBLE, differs / most.clamp(min=_VISIBLE), 0.0)
    opacity = torch.maximum(inside, grown(region[None], _EDGE)[0] * seen)
    return Layer(pixels - (1 - opacity) * behind, opacity)


def _middle(region: Tensor) -> tuple[float, float]:
    """Return the middle (x, y) of a region bool [1, H, W], from end to end without its outermost pixels.

    A few pixels that a segmenter takes for a part of the thing do not move it.
    """
    rows, columns = (index.double() for index in region[0].nonzero(as_tuple=True))
    x, y = ((torch.quantile(index, _OUTER) + torch.quantile(index, 1 - _OUTER)) / 2 for index in (columns, rows))
    return float(x), float(y)
