"""Pictures that a caller gives: of any mode in colours of 8 bits, and pixels in their range."""

import numpy as np
from PIL import Image
from torch import Tensor

from diffexplain_fast.errors import wrong_value

_PAPER = (255, 255, 255)
"""What shows through the transparent places of a picture."""


def in_colour(image: Image.Image) -> Image.Image:
    """Return a picture as RGB: grey becomes colour, transparent places become white.

    Of a picture of more than 8 bits, such as an X-ray, the brightest place becomes white.

    Args:
        image: of any mode.
    """
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, np.float32)
        image = Image.fromarray((255 * values / max(float(values.max()), 1.0)).clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        whole = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", whole.size, (*_PAPER, 255)), whole)
    return image.convert("RGB")


def check_range(argument: str, wanted: str, pixels: Tensor) -> None:
    """Refuse pixels that are not in [0, 1], NaN too.

    Args:
        argument: of the caller.
        wanted: what the argument has to be, in words.
        pixels: of any shape with at least one number.

    Raises:
        ValueError: see above; the message has the smallest and the largest number.
    """
    if not bool(((pixels >= 0) & (pixels <= 1)).all()):
        raise wrong_value(argument, wanted, f"{float(pixels.min()):.3g} to {float(pixels.max()):.3g}")
