"""What a classifier library does to an image before the model, as a differentiable function of pixels in [0, 1]."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from diffexplain_fast.models.constants import constant
from diffexplain_fast.ops.resize_normalize import resize


@dataclass(frozen=True)
class Preprocess:
    """Resize, centre crop, scale, exchange channels, normalise: each step only if it is given.

    Args:
        size: (height, width), or the length of the shorter side, which keeps the aspect ratio; pixels.
        mode: interpolation of the resize, "bilinear" or "bicubic"; always antialiased.
        crop: (height, width) of the centre; a smaller image is padded with black.
        rounds: where half of an odd border begins: False rounds down as transformers, True to even as torchvision.
        scale: factor of the pixels; 1.0 keeps [0, 1], 255.0 gives [0, 255].
        bgr: whether the model takes blue, green, red.
        mean: subtracted from each channel after scaling.
        std: divisor of each channel.
    """

    size: tuple[int, int] | int | None = None
    mode: str = "bilinear"
    crop: tuple[int, int] | None = None
    rounds: bool = False
    scale: float = 1.0
    bgr: bool = False
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return what the model takes, from pixels [B, 3, H, W] in [0, 1]."""
        if self.size is not None:
            pixels = resize(pixels, self._resized(*pixels.shape[-2:]), self.mode)
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
            pixels = F.pad(pixels, (across // 2, across - across // 2, down // 2, down - down // 2))
        borders = pixels.shape[-2] - height, pixels.shape[-1] - width
        top, left = (round(border / 2) if self.rounds else border // 2 for border in borders)
        return pixels[..., top : top + height, left : left + width]


def _channels(values: tuple[float, ...], pixels: Tensor) -> Tensor:
    return constant(values, pixels.dtype, pixels.device).view(-1, 1, 1)
