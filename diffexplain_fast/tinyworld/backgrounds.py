"""The backgrounds of the tiny world: a sky, a ground from the horizon down, and what lies on them."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from diffexplain_fast.tinyworld.shapes import Colour

SKY_GROUND: dict[str, tuple[Colour, Colour]] = {
    "sea": ((120, 190, 240), (20, 80, 160)),
    "grass": ((165, 215, 245), (80, 170, 70)),
    "desert": ((250, 220, 160), (222, 176, 96)),
    "snow": ((150, 172, 205), (240, 245, 250)),
    "night": ((28, 30, 88), (56, 52, 82)),
}
_COLOUR_JITTER = 12


def _waves(draw: ImageDraw.ImageDraw, size: int, horizon: int, rng: np.random.Generator) -> None:
    phase = rng.uniform(0, 6.3)
    for y in range(horizon + 14, size, 28):
        wave = [(x, y + 5 * np.sin(x / 14 + y + phase)) for x in range(0, size + 8, 8)]
        draw.line(wave, fill=(120, 180, 230), width=5)


def _blades(draw: ImageDraw.ImageDraw, size: int, horizon: int, rng: np.random.Generator) -> None:
    for x, y in zip(rng.integers(0, size, 25), rng.integers(horizon, size, 25), strict=True):
        draw.line([x, y, x + 5, y - 14], fill=(40, 120, 40), width=4)


def _dune(draw: ImageDraw.ImageDraw, size: int, horizon: int, rng: np.random.Generator) -> None:
    left = rng.uniform(-0.3, 0.5) * size
    draw.ellipse([left, horizon - 25, left + 0.8 * size, horizon + 70], fill=(235, 196, 120))


def _flakes(draw: ImageDraw.ImageDraw, size: int, horizon: int, rng: np.random.Generator) -> None:
    for x, y in zip(rng.integers(0, size, 18), rng.integers(0, horizon, 18), strict=True):
        draw.ellipse([x - 5, y - 5, x + 5, y + 5], fill=(255, 255, 255))


def _stars(draw: ImageDraw.ImageDraw, size: int, horizon: int, rng: np.random.Generator) -> None:
    for x, y in zip(rng.integers(0, size, 12), rng.integers(0, horizon, 12), strict=True):
        draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=(255, 255, 220))


_DETAILS: dict[str, Callable[[ImageDraw.ImageDraw, int, int, np.random.Generator], None]] = {
    "sea": _waves,
    "grass": _blades,
    "desert": _dune,
    "snow": _flakes,
    "night": _stars,
}


def jittered(colour: Colour, shift: np.ndarray) -> Colour:
    """Return a colour moved by ``shift`` (three integers), inside 0 to 255."""
    red, green, blue = (int(value) for value in np.clip(np.asarray(colour) + shift, 0, 255))
    return red, green, blue


def paint_background(name: str, size: int, rng: np.random.Generator) -> Image.Image:
    """Return the background called ``name`` as an RGB image of ``size`` by ``size`` pixels."""
    sky, ground = SKY_GROUND[name]
    shift = rng.integers(-_COLOUR_JITTER, _COLOUR_JITTER + 1, 3)
    horizon = int(size * rng.uniform(0.38, 0.58))
    image = Image.new("RGB", (size, size), jittered(sky, shift))
    draw = ImageDraw.Draw(image)
    draw.rectangle([0, horizon, size, size], fill=jittered(ground, shift))
    _DETAILS[name](draw, size, horizon, rng)
    return image
