"""Pictures that a caller gives: of any mode in colours of 8 bits, and pixels in their range."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image
from torch import Tensor

from diffexplain_fast.errors import wrong_value

_PAPER = (255, 255, 255)
"""What shows through the transparent places of a picture."""
_UNDERSHOOT = 0.3
"""Share of the brightest place by which numbers below 0 are still black. Lanczos and bicubic filters make such
numbers beside bright places: 0.1 of it at an edge, 0.22 at a corner, 0.25 in black and white noise that is made smaller
(made larger it reaches 0.4, and is refused). Air in a CT of 12 bits is at -1024, 0.33 of the most that it can hold."""


def in_colour(image: Image.Image) -> Image.Image:
    """Return a picture as RGB: grey becomes colour, transparent places become white.

    Of a picture of more than 8 bits, such as an X-ray, the brightest place becomes white, and 0 black. Numbers below 0
    by at most 0.3 of the brightest place become black, too: filters that change the size of a picture make such numbers
    beside bright places. Other numbers below 0, as of a CT, have no grey of their own and are refused.

    Args:
        image: of any mode.

    Raises:
        OSError: a file that is cut off or no picture; ``reading`` names the argument.
        ValueError: a picture that was closed, or one of numbers that are not finite, or further below 0 than
            filters reach.
    """
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, np.float32)
        if not np.isfinite(values).all():
            raise ValueError("numbers that are not finite")
        if values.size and values.min() < -_UNDERSHOOT * max(float(values.max()), 0.0):
            reach = f"where 0 is black, and filters reach -{_UNDERSHOOT} of the largest,"
            raise ValueError(f"numbers from {values.min():.6g} to {values.max():.6g}, {reach}")
        image = Image.fromarray((255 * values / max(float(values.max()), 1.0)).clip(0, 255).astype(np.uint8))
    if image.mode == "La":
        image = image.convert("LA")
    if "A" in image.getbands() or "transparency" in image.info:
        whole = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", whole.size, (*_PAPER, 255)), whole)
    return image.convert("RGB")


@contextmanager
def first_picture(image: Image.Image) -> Iterator[Image.Image]:
    """Give the first picture of an animation, or of a file of several pages; it stays where the caller left it.

    Args:
        image: any picture, which may have one frame only.

    Raises:
        OSError: a file that is cut off; ``reading`` names the argument.
    """
    frame, file = image.tell(), getattr(image, "_fp", None)
    if not frame:
        yield image
    elif image.format == "PNG" and file is not None:
        # Pillow does not find the second picture of a PNG again after the first one.
        place = file.tell()
        file.seek(0)
        whole = io.BytesIO(file.read())
        file.seek(place)
        with Image.open(whole) as first:
            yield first
    else:
        image.seek(0)
        try:
            yield image
        finally:
            image.seek(frame)


@contextmanager
def reading(argument: str, image: Image.Image, number: int | None = None) -> Iterator[None]:
    """Refuse an empty picture, and name one that turns out to be unreadable while the context is open.

    Args:
        argument: of the caller.
        image: is read in the context.
        number: of the picture, from 0, which the message counts from 1; None for the only one.

    Raises:
        ValueError: no pixel, a file that is cut off, a picture that was closed, or numbers that are not finite or too
            far below 0, see ``in_colour``.
    """
    place = "" if number is None else f" for picture {number + 1}"
    if not all(image.size):
        raise wrong_value(argument, "pictures of at least one pixel", f"{image.width} x {image.height}{place}")
    try:
        yield
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise wrong_value(argument, "pictures that can be read", f"{error}{place}") from error


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
