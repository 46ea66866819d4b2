"""The user's own pictures as pixels: of any size and mode, in the size of a pipeline."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from diffexplain_fast.coloured import check_range, first_picture, in_colour, reading
from diffexplain_fast.errors import wrong_type, wrong_value


def as_pixels(
    images: object, size: tuple[int, int], device: torch.device | str = "cpu", name: str = "images"
) -> Tensor:
    """Return pictures as pixels [B, 3, H, W] in [0, 1], in float32.

    A picture of another size is scaled so that it covers the size, and what is too long is cut off on both sides. Grey
    becomes colour, transparent places become white, of an animation the first picture counts, and a picture that a
    camera has marked as turned is turned back. A picture of the caller's stays as it is, an animation at its frame.

    Args:
        images: a PIL image, a sequence of them, or pixels [3, H, W] or [B, 3, H, W] in [0, 1].
        size: height and width.
        device: where the pixels are put.
        name: of the argument in a message.

    Raises:
        TypeError: something else.
        ValueError: no picture, one without pixels or that cannot be read, pixels of another shape or dtype, or out of
            [0, 1].
    """
    if isinstance(images, Tensor):
        return _scaled(_checked(images, name), size).to(device)
    given = [images] if isinstance(images, Image.Image) else images
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise wrong_type(name, "PIL images, or pixels [B, 3, H, W] in [0, 1]", images)
    if not given:
        raise wrong_value(name, "at least one picture", "none")
    for image in given:
        if not isinstance(image, Image.Image):
            raise wrong_type(name, "PIL images, or pixels [B, 3, H, W] in [0, 1]", image)
    several = given is images
    pixels = [_read(image, size, name, i if several else None) for i, image in enumerate(given)]
    return torch.stack(pixels).to(device)


def as_image(pixels: Tensor) -> Image.Image:
    """Return pixels [3, H, W], about [0, 1], as a PIL image of 8 bits."""
    values = (pixels.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(values)


def _checked(pixels: Tensor, name: str) -> Tensor:
    if pixels.ndim == 3:
        pixels = pixels[None]
    if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.numel() == 0:
        raise wrong_value(name, "pixels [B, 3, H, W] with at least one picture", list(pixels.shape))
    if not pixels.is_floating_point():
        raise wrong_value(name, "floating point pixels in [0, 1]", pixels.dtype)
    check_range(name, "pixels in [0, 1]", pixels)
    return pixels.detach().float()


def _read(image: Image.Image, size: tuple[int, int], name: str, number: int | None) -> Tensor:
    with reading(name, image, number), first_picture(image) as first:
        colour = in_colour(ImageOps.exif_transpose(first))
    colour = ImageOps.fit(colour, (size[1], size[0]), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(colour)).permute(2, 0, 1).float() / 255


def _scaled(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = pixels.shape[-2:]
    if (height, width) == size:
        return pixels
    factor = max(size[0] / height, size[1] / width)
    large = (max(round(height * factor), size[0]), max(round(width * factor), size[1]))
    found = torch.nn.functional.interpolate(pixels, large, mode="bilinear", antialias=True, align_corners=False)
    top, left = (large[0] - size[0]) // 2, (large[1] - size[1]) // 2
    return found[..., top : top + size[0], left : left + size[1]].clamp(0, 1)
