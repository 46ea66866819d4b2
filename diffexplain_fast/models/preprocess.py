"""The preprocessing of classifier libraries as a differentiable function of pixels in [0, 1]."""

import functools
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from diffexplain_fast.ops._constants import constant
from diffexplain_fast.ops.resize_normalize import resize


@dataclass(frozen=True)
class Preprocess:
    """Resize, centre crop, scale, exchange channels, normalise; each step runs only if its option is set.

    A bicubic resize overshoots at edges, which pictures of eight bits cannot represent: Pillow resizes one side after
    the other and clamps to [0, 1] after each. This class does the same, in the order of the installed Pillow.

    Args:
        size: (height, width), or the length of the shorter side, which keeps the aspect ratio; pixels.
        mode: interpolation of the resize, "bilinear" or "bicubic"; always antialiased.
        crop: (height, width) of the centre; a smaller image is padded with black.
        rounds: rounding of half an odd border: False rounds down as transformers, True to even as torchvision.
        scale: factor of the pixels; 1.0 keeps [0, 1], 255.0 gives [0, 255].
        bgr: True if the model takes channels in the order blue, green, red.
        mean: number subtracted from each channel after scaling.
        std: divisor of each channel.
        more_before: side of the odd line of an uneven padding: True for above and left, as in transformers' processors
            of Pillow pictures; False for below and right, as in its other processors and torchvision.
    """

    size: tuple[int, int] | int | None = None
    mode: str = "bilinear"
    crop: tuple[int, int] | None = None
    rounds: bool = False
    scale: float = 1.0
    bgr: bool = False
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    more_before: bool = field(default=False, repr=False)  # not in repr, so that older fingerprints stay the same

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the input of the model for pixels [B, 3, H, W] in [0, 1]."""
        if self.size is not None:
            pixels = self._resize(pixels, *self._resized(*pixels.shape[-2:]))
        if self.crop is not None:
            pixels = self._centre(pixels, *self.crop)
        if self.scale != 1.0:
            pixels = pixels * self.scale
        if self.bgr:
            pixels = pixels.flip(1)
        if self.mean is not None:
            pixels = pixels - _channels(self.mean, pixels)
        if self.std is not None:
            pixels = pixels / _channels(self.std, pixels)
        return pixels

    def _resize(self, pixels: Tensor, height: int, width: int) -> Tensor:
        if self.mode != "bicubic":
            return resize(pixels, (height, width), self.mode)
        old, new = (pixels.shape[-2], pixels.shape[-1]), (height, width)
        return _one_after_the_other(pixels, new, _is_width_first(old, new))

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if not isinstance(self.size, int):
            assert self.size is not None
            return self.size
        if height <= width:
            return self.size, int(self.size * width / height)
        return int(self.size * height / width), self.size

    def _centre(self, pixels: Tensor, height: int, width: int) -> Tensor:
        down, across = max(height - pixels.shape[-2], 0), max(width - pixels.shape[-1], 0)
        if down or across:
            more = int(self.more_before)
            left, top = (across + more) // 2, (down + more) // 2
            pixels = F.pad(pixels, (left, across - left, top, down - top))
        borders = pixels.shape[-2] - height, pixels.shape[-1] - width
        top, left = (round(border / 2) if self.rounds else border // 2 for border in borders)
        return pixels[..., top : top + height, left : left + width]


def _one_after_the_other(pixels: Tensor, size: tuple[int, int], width_first: bool) -> Tensor:
    """Return pixels [..., H, W] of another size, each side resized bicubically and clamped to [0, 1]."""
    first = (pixels.shape[-2], size[1]) if width_first else (size[0], pixels.shape[-1])
    for step in (first, size):
        if step != tuple(pixels.shape[-2:]):
            pixels = resize(pixels, step, "bicubic").clamp(0, 1)
    return pixels


@functools.lru_cache(maxsize=64)
def _is_width_first(old: tuple[int, int], new: tuple[int, int]) -> bool:
    """Return whether Pillow resizes the width first, tried on a picture, because since version 13 the sizes decide."""
    if old[0] == new[0] or old[1] == new[1]:
        return True
    with torch.inference_mode(False), torch.no_grad():
        generator = torch.Generator("cpu").manual_seed(0)
        picture = torch.randint(2, old, generator=generator, device="cpu").double()
        seen = Image.fromarray(picture.mul(255).byte().numpy()).resize(new[::-1], Image.Resampling.BICUBIC)
        theirs = torch.from_numpy(np.array(seen)).double() / 255
        ours = (_one_after_the_other(picture, new, width_first) for width_first in (True, False))
        by_width, by_height = (float((one - theirs).abs().mean()) for one in ours)
    return by_width <= by_height


def _channels(values: tuple[float, ...], pixels: Tensor) -> Tensor:
    return constant(values, pixels.dtype, pixels.device).view(-1, 1, 1)
