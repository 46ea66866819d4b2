"""Things as layers of a picture: taken out of it, put elsewhere, made smaller, put back over something else."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d, pad

from diffexplain_fast.editing.latents import grown
from diffexplain_fast.records import JsonObject

_EDGE = 2
"""Pixels by which a segmenter's edge may be wrong."""
_VISIBLE = 0.06
"""Least difference to what is behind it of a pixel that is part of a thing, of 0 to 1."""


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

    def smaller(self, scale: float, x: float, y: float) -> "Layer":
        """Return the thing smaller, the pixel (x, y) of it where it was.

        Args:
            scale: its new width and height over the old ones, above 0 and at most 1.
            x: in pixels from the left.
            y: in pixels from the top.
        """
        height, width = self.opacity.shape[-2:]
        size = max(1, round(scale * height)), max(1, round(scale * width))
        small = interpolate(torch.cat(self)[None], size, mode="bicubic", antialias=True)[0]
        # The middle of pixel i is at i + 1/2.
        top, left = round((y + 0.5) * (1 - size[0] / height)), round((x + 0.5) * (1 - size[1] / width))
        found = pad(small, (left, width - size[1] - left, top, height - size[0] - top))
        # A bicubic filter overshoots at an edge: nothing covers less than 0, or more than 1 with its own colours.
        opacity = found[3:]
        found = torch.where(opacity > 0, found / opacity.clamp(min=1), 0.0)
        return Layer(found[:3], found[3:])

    def mask(self) -> Tensor:
        """Return where the thing is and a pixel around it, bool [1, H, W], because the edge of a mask is soft."""
        return grown((self.opacity > 0)[None], 1)[0].bool()


def layer_of(pixels: Tensor, behind: Tensor, region: Tensor) -> Layer:
    """Return a thing of a picture.

    A pixel at the edge is covered as much as it differs from what is behind, compared with the pixels around.

    Args:
        pixels: the picture [3, H, W].
        behind: the same picture without the thing [3, H, W].
        region: where a segmenter finds it, bool [1, H, W].
    """
    inside = 1 - grown(1 - region.float()[None], _EDGE)[0]
    apart = difference(pixels, behind)
    most = max_pool2d(apart[None], 2 * _EDGE + 1, 1, _EDGE)[0]
    seen = torch.where(apart > _VISIBLE, apart / most.clamp(min=_VISIBLE), 0.0)
    opacity = torch.maximum(inside, grown(region[None], _EDGE)[0] * seen)
    return Layer(pixels - (1 - opacity) * behind, opacity)


def difference(pixels: Tensor, behind: Tensor) -> Tensor:
    """Return how much two pictures [3, H, W] differ in the colour in which they differ most, [1, H, W]."""
    return (pixels - behind).abs().amax(0, keepdim=True)


def layers_record() -> JsonObject:
    """Return all constants of taking a thing out of a picture; JSON values."""
    return {"edge": _EDGE, "visible": _VISIBLE}
