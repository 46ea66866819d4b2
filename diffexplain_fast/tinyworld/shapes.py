"""How objects and companions of the tiny world are drawn, in coordinates of their own: centre 0, radius about 1."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import ImageDraw

Colour = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

_INK: Colour = (24, 22, 30)
_DARKER = 0.55


class Pen:
    """A drawing surface around one centre: shapes are given in radii, outlines are ``line`` pixels wide."""

    def __init__(self, draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, line: int = 4) -> None:
        self._draw, self._x, self._y, self._radius, self._line = draw, x, y, radius, line

    def _at(self, points: Points) -> list[tuple[float, float]]:
        return [(self._x + x * self._radius, self._y + y * self._radius) for x, y in points]

    def polygon(self, points: Points, fill: Colour) -> None:
        """Draw a closed outline through points and fill it."""
        self._draw.polygon(self._at(points), fill=fill, outline=_INK, width=self._line)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
        """Draw a rectangle."""
        self._draw.rectangle(self._at([(left, top), (right, bottom)]), fill=fill, outline=_INK, width=self._line)

    def ellipse(self, left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
        """Draw the ellipse that fills a rectangle."""
        self._draw.ellipse(self._at([(left, top), (right, bottom)]), fill=fill, outline=_INK, width=self._line)

    def dome(self, left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
        """Draw the upper half of the ellipse that fills a rectangle."""
        corners = self._at([(left, top), (right, bottom)])
        self._draw.pieslice(corners, 180, 360, fill=fill, outline=_INK, width=self._line)

    def line(self, points: Points, fill: Colour, width: float) -> None:
        """Draw an open line without an outline; the width is in radii too, at least a pixel."""
        self._draw.line(self._at(points), fill=fill, width=max(1, round(width * self._radius)))


def darker(colour: Colour) -> Colour:
    """Return the shade of a colour that the second surface of an object has."""
    red, green, blue = (int(value * _DARKER) for value in colour)
    return red, green, blue


def _star_points(tips: int, inner: float) -> list[tuple[float, float]]:
    angles = np.arange(2 * tips) * np.pi / tips - np.pi / 2
    radii = np.where(np.arange(2 * tips) % 2 == 0, 1.0, inner)
    return [(float(r * np.cos(a)), float(r * np.sin(a))) for a, r in zip(angles, radii, strict=True)]


def _boat(pen: Pen, colour: Colour) -> None:
    pen.polygon([(-1, 0.3), (1, 0.3), (0.6, 0.85), (-0.6, 0.85)], colour)
    pen.polygon([(0.05, -1), (0.05, 0.2), (0.85, 0.2)], colour)
    pen.polygon([(-0.08, -0.8), (-0.08, 0.2), (-0.75, 0.2)], darker(colour))


def _house(pen: Pen, colour: Colour) -> None:
    pen.box(-0.72, -0.1, 0.72, 0.9, colour)
    pen.polygon([(-1, -0.1), (0, -1), (1, -0.1)], darker(colour))
    pen.box(-0.2, 0.3, 0.2, 0.9, (90, 60, 40))


def _tree(pen: Pen, colour: Colour) -> None:
    pen.box(-0.16, 0.4, 0.16, 1, (110, 70, 40))
    pen.polygon([(0, -0.35), (0.9, 0.55), (-0.9, 0.55)], colour)
    pen.polygon([(0, -1.05), (0.66, 0), (-0.66, 0)], colour)


def _fish(pen: Pen, colour: Colour) -> None:
    pen.polygon([(0.35, 0), (1.05, -0.55), (1.05, 0.55)], darker(colour))
    pen.ellipse(-1, -0.5, 0.55, 0.5, colour)
    pen.ellipse(-0.75, -0.25, -0.5, 0, (250, 250, 250))


def _star(pen: Pen, colour: Colour) -> None:
    pen.polygon(_star_points(5, 0.44), colour)


def _car(pen: Pen, colour: Colour) -> None:
    pen.polygon([(-0.65, 0), (-0.42, -0.5), (0.42, -0.5), (0.65, 0)], (190, 220, 235))
    pen.box(-1.05, -0.02, 1.05, 0.46, colour)
    for side in (-1, 1):
        pen.ellipse(0.58 * side - 0.25, 0.22, 0.58 * side + 0.25, 0.72, (30, 30, 34))


def _bird(pen: Pen, colour: Colour) -> None:
    pen.polygon([(0.78, -0.45), (1.15, -0.3), (0.78, -0.18)], (250, 150, 30))
    pen.polygon([(-0.45, 0.1), (-1.1, -0.15), (-1.05, 0.35)], darker(colour))
    pen.ellipse(-0.7, -0.25, 0.5, 0.55, colour)
    pen.ellipse(0.22, -0.72, 0.85, -0.08, colour)
    pen.polygon([(-0.25, 0), (-0.75, -0.85), (0.2, -0.12)], darker(colour))


def _mushroom(pen: Pen, colour: Colour) -> None:
    pen.box(-0.24, -0.1, 0.24, 0.9, (235, 225, 205))
    pen.dome(-0.95, -0.85, 0.95, 0.75, colour)


def _sun(pen: Pen) -> None:
    for angle in np.arange(8) * np.pi / 4:
        x, y = float(np.cos(angle)), float(np.sin(angle))
        pen.line([(0.8 * x, 0.8 * y), (1.2 * x, 1.2 * y)], (255, 200, 30), 0.2)
    pen.ellipse(-0.72, -0.72, 0.72, 0.72, (255, 215, 60))


def _flag(pen: Pen) -> None:
    pen.line([(-0.75, -1), (-0.75, 1.3)], (60, 50, 40), 0.2)
    pen.box(-0.75, -1, 1, 0.2, (220, 30, 50))
    pen.box(-0.75, -0.6, 1, -0.2, (255, 255, 255))


def _flower(pen: Pen) -> None:
    pen.line([(0, 0.3), (0, 1.35)], (40, 130, 50), 0.2)
    for angle in np.arange(6) * np.pi / 3:
        x, y = 0.55 * float(np.cos(angle)), 0.55 * float(np.sin(angle))
        pen.ellipse(x - 0.42, y - 0.42, x + 0.42, y + 0.42, (245, 110, 190))
    pen.ellipse(-0.34, -0.34, 0.34, 0.34, (250, 220, 60))


def _cloud(pen: Pen) -> None:
    for x, size in ((-0.7, 0.52), (0.7, 0.52), (0, 0.75)):
        pen.ellipse(x - size, -size, x + size, size, (250, 250, 252))


def _kite(pen: Pen) -> None:
    pen.line([(0, 1), (0.3, 1.2), (0.05, 1.45)], (240, 130, 20), 0.16)
    pen.polygon([(0, -1.15), (0.95, -0.1), (0, 1.05), (-0.95, -0.1)], (20, 195, 185))
    pen.polygon([(0, -1.15), (0.95, -0.1), (0, -0.1)], (240, 130, 20))


DRAW_OBJECT: dict[str, Callable[[Pen, Colour], None]] = {
    "boat": _boat,
    "house": _house,
    "tree": _tree,
    "fish": _fish,
    "star": _star,
    "car": _car,
    "bird": _bird,
    "mushroom": _mushroom,
}
DRAW_COMPANION: dict[str, Callable[[Pen], None]] = {
    "sun": _sun,
    "flag": _flag,
    "flower": _flower,
    "cloud": _cloud,
    "kite": _kite,
}
