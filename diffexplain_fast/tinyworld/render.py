"""The renderer of the tiny world: attributes and a seed in; picture, caption and a mask of every element out."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from diffexplain_fast.errors import unknown_name, wrong_value
from diffexplain_fast.targets import whole_number
from diffexplain_fast.tinyworld.backgrounds import jittered, paint_background
from diffexplain_fast.tinyworld.overlays import paint_frame, paint_mark, paint_pattern
from diffexplain_fast.tinyworld.shapes import DRAW_COMPANION, DRAW_OBJECT, Colour, Pen
from diffexplain_fast.tinyworld.words import ABSENCE, NOTHING, STYLES, USUAL, caption, draw_attributes, values_of

SIZE = 64
"""Side of a picture in pixels."""
_SCALE = 4
_CANVAS = SIZE * _SCALE
_PAINT: dict[str, Colour] = {
    "red": (216, 40, 36),
    "green": (40, 160, 60),
    "blue": (44, 84, 220),
    "yellow": (244, 206, 40),
    "purple": (145, 55, 185),
    "white": (244, 244, 244),
}
_COLOUR_JITTER = 12
_PATTERN_PERIOD = 30
_SMALL_PERIOD = 16
"""Of small objects, on which a whole period of the usual width has no place."""
_PATTERN_SHADE = 0.5
_SHAPE_PAPER: Colour = (225, 225, 220)
_SHAPE_INK: Colour = (60, 60, 66)
_RADII = {"small": (36, 44), "large": (82, 90)}
_PLACE_SHIFTS = (54, 62)
"""Distance of the object's centre from the middle, for an object at the left or right; at most 38 for one at neither.
"""


class _Layout(NamedTuple):
    """Where and how a scene is drawn, in pixels of the canvas.

    Attributes:
        companion: centre and radius of the companion.
        object: centre and radius of the object.
        shade: what is added to the paint [3].
        phase: start of stripes, dots and patterns.
    """

    companion: tuple[float, float, float]
    object: tuple[float, float, float]
    shade: np.ndarray
    phase: int


class Scene(NamedTuple):
    """A rendered scene.

    Attributes:
        image: RGB picture of 64 by 64 pixels.
        caption: the full caption.
        masks: element (object, companion and background by their names, frame and mark by their values) to a boolean
            array [64, 64]; the masks of a scene cover every pixel exactly once.
    """

    image: Image.Image
    caption: str
    masks: dict[str, np.ndarray]


def render(
    object: str | None = None,
    colour: str | None = None,
    background: str | None = None,
    companion: str | None = None,
    texture: str | None = None,
    seed: int = 0,
    *,
    size: str | None = None,
    place: str | None = None,
    mark: str | None = None,
    pattern: str | None = None,
    frame: str | None = None,
) -> Scene:
    """Render one scene; what is not given is drawn at random, and so are positions, sizes and shades.

    A size, place, mark, pattern or frame that is not given is not there: the object has the usual range of sizes and
    places.

    Args:
        object: one of ``OBJECTS``, or "nothing" for an empty place.
        colour: one of ``COLOURS``, the colour of the object.
        background: one of ``BACKGROUNDS``.
        companion: one of ``COMPANIONS``, or "nothing".
        texture: one of ``TEXTURES``, the surface of the object.
        seed: the same seed and attributes give the same picture; two scenes of one seed that differ in one attribute
            have the same layout, which makes them a counterfactual pair. A companion gives way to an object at its
            side: it then lies mirrored.
        size: one of ``SIZES``, of the object.
        place: one of ``PLACES``, of the object.
        mark: one of ``MARKS``, over everything but a frame; no model of the world was trained on one.
        pattern: one of ``PATTERNS``, on the background.
        frame: one of ``FRAMES``, around the picture.

    Returns:
        A ``Scene``.

    Raises:
        UnknownNameError: for a value that the world does not have; the message names the nearest.
        TypeError: a seed that is not a whole number.
        ValueError: a seed below 0.
    """
    wanted = dict(object=object, colour=colour, background=background, companion=companion, texture=texture)
    wanted |= dict(size=size, place=place, mark=mark, pattern=pattern, frame=frame)
    if whole_number("seed", seed) < 0:
        raise wrong_value("seed", "at least 0", seed)
    attributes = draw_attributes(np.random.default_rng([seed, 0])) | {"style": "scene"}
    for name, value in wanted.items():
        known = values_of(name)
        if value is not None and value not in known:
            raise unknown_name(name, str(value), known)
        attributes |= {name: value} if value is not None else {}
    image, masks = draw_scene(attributes, seed)
    return Scene(image, caption(attributes), masks)


def draw_scene(attributes: Mapping[str, str], seed: int) -> tuple[Image.Image, dict[str, np.ndarray]]:
    """Return picture and masks of a scene given by its attributes, with the layout that ``seed`` draws.

    A size, place, pattern, frame or mark that ``attributes`` leaves out is not there.
    """
    attributes = {**ABSENCE, **attributes}
    assert attributes["style"] in STYLES
    layout = _lay_out(attributes, seed)
    paint = jittered(_PAINT[attributes["colour"]], layout.shade)
    if attributes["style"] == "texture":
        return _small(_surface(paint, attributes["texture"], layout.phase)), {}
    if attributes["style"] == "shape":
        return _small(_silhouette(attributes["object"], layout.object)), {}

    canvas = paint_background(attributes["background"], _CANVAS, np.random.default_rng([seed, 2]))
    if attributes["pattern"] != NOTHING:
        paint_pattern(canvas, attributes["pattern"], 2 * layout.phase)
    layers: dict[str, Image.Image] = {}
    if attributes["companion"] != NOTHING:
        layers[attributes["companion"]] = _draw_companion(canvas, attributes["companion"], layout.companion)
    if attributes["object"] != NOTHING:
        layers[attributes["object"]] = _draw_object(canvas, attributes, layout.object, paint, layout.phase)
    if attributes["mark"] != NOTHING:
        layers[attributes["mark"]] = paint_mark(canvas)
    if attributes["frame"] != NOTHING:
        layers[attributes["frame"]] = paint_frame(canvas, attributes["frame"])
    return _small(canvas), _masks(layers, attributes["background"])


def _lay_out(attributes: Mapping[str, str], seed: int) -> _Layout:
    """Draw the layout of a seed; only a size or place that is not the usual one draws from a second source."""
    rng, other = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 3])
    side = rng.choice([-1, 1])
    companion = (_CANVAS * 0.5 + side * rng.uniform(70, 88), rng.uniform(46, 64), rng.uniform(31, 36))
    x, y = _CANVAS * 0.5 - side * rng.uniform(0, 38), _CANVAS * rng.uniform(0.58, 0.68)
    radius = rng.uniform(56, 72)
    shade = rng.integers(-_COLOUR_JITTER, _COLOUR_JITTER + 1, 3)
    phase = int(rng.integers(_PATTERN_PERIOD))
    shift, scale = other.uniform(*_PLACE_SHIFTS), other.uniform()
    if attributes["size"] != USUAL:
        least, most = _RADII[attributes["size"]]
        radius = least + (most - least) * scale
    if attributes["place"] != USUAL:
        towards = 1 if attributes["place"] == "right" else -1
        x = _CANVAS * 0.5 + towards * shift
        companion = (_CANVAS - companion[0], *companion[1:]) if side == towards else companion
    return _Layout(companion, (x, y, radius), shade, phase)


def _draw_companion(canvas: Image.Image, name: str, spot: tuple[float, float, float]) -> Image.Image:
    before = canvas.copy()
    DRAW_COMPANION[name](Pen(ImageDraw.Draw(canvas), *spot, line=3))
    return _changed(before, canvas)


def _draw_object(
    canvas: Image.Image,
    attributes: Mapping[str, str],
    place: tuple[float, float, float],
    paint: Colour,
    phase: int,
) -> Image.Image:
    before = canvas.copy()
    DRAW_OBJECT[attributes["object"]](Pen(ImageDraw.Draw(canvas), *place), paint)
    drawn = _changed(before, canvas)
    if attributes["texture"] != "plain":
        painted = _flat(canvas, paint)
        period = _SMALL_PERIOD if attributes["size"] == "small" else _PATTERN_PERIOD
        surface = _surface(paint, attributes["texture"], phase, period)
        canvas.paste(surface, (0, 0), ImageChops.multiply(painted, drawn))
    return drawn


def _surface(paint: Colour, texture: str, phase: int, period: int = _PATTERN_PERIOD) -> Image.Image:
    """A canvas in one paint with the stripes or dots of a texture, in a darker or, for dark paints, a lighter shade."""
    surface = Image.new("RGB", (_CANVAS, _CANVAS), paint)
    draw = ImageDraw.Draw(surface)
    red, green, blue = (int(value * _PATTERN_SHADE) for value in paint)
    mark = (red, green, blue)
    starts = range(phase - period, _CANVAS + period, period)
    if texture == "striped":
        for x in starts:
            draw.rectangle([x, 0, x + period * 0.42, _CANVAS], fill=mark)
    if texture == "dotted":
        for row, y in enumerate(starts):
            for x in starts:
                centre = x + (row % 2) * period / 2
                draw.ellipse([centre, y, centre + period * 0.55, y + period * 0.55], fill=mark)
    return surface


def _silhouette(name: str, place: tuple[float, float, float]) -> Image.Image:
    paper = Image.new("RGB", (_CANVAS, _CANVAS), _SHAPE_PAPER)
    drawn = paper.copy()
    DRAW_OBJECT[name](Pen(ImageDraw.Draw(drawn), *place), _SHAPE_INK)
    paper.paste(_SHAPE_INK, (0, 0), _changed(paper, drawn))
    return paper


def _changed(before: Image.Image, after: Image.Image) -> Image.Image:
    """Mask (0 or 255) of the pixels that differ between two canvases."""
    red, green, blue = ImageChops.difference(before, after).split()
    return ImageChops.lighter(ImageChops.lighter(red, green), blue).point([0] + [255] * 255)


def _flat(canvas: Image.Image, paint: Colour) -> Image.Image:
    """Mask (0 or 255) of the pixels that have exactly one paint."""
    plain = Image.new("RGB", canvas.size, paint)
    return ImageChops.invert(_changed(plain, canvas))


def _small(canvas: Image.Image) -> Image.Image:
    return canvas.reduce(_SCALE)


def _masks(layers: Mapping[str, Image.Image], background: str) -> dict[str, np.ndarray]:
    free = np.ones((SIZE, SIZE), bool)
    masks: dict[str, np.ndarray] = {}
    for name, layer in reversed(list(layers.items())):
        masks[name] = (np.asarray(_small(layer)) > 127) & free
        free &= ~masks[name]
    return masks | {background: free}
