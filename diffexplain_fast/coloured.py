"""Pictures of any mode in colours of 8 bits."""

import numpy as np
from PIL import Image

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
