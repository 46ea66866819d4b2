"""What lies on a picture beside its elements: patterns of the background, frames, and a watermark."""

from PIL import Image, ImageDraw

from diffexplain_fast.tinyworld.shapes import Colour

_PATTERN_SHADE = 0.72
_DIAGONAL_PERIOD = 48
_DIAGONAL_WIDTH = 20
_CHECK = 32
_FRAME_WIDTH = 12
_FRAME_PAINT: dict[str, Colour] = {"dark": (22, 20, 28), "gold": (212, 158, 36)}
_MARK_BOX = (160, 204, 236, 236)
"""Left, top, right and bottom of the watermark on the canvas; multiples of four, so that its mask is exact."""
_MARK_PAPER: Colour = (255, 255, 255)
_MARK_INK: Colour = (60, 60, 70)
_MARK_OPACITY = 0.6
_MARK_STROKES = (
    ((8, 6), (8, 26), (20, 26)),
    ((28, 26), (34, 6), (40, 26)),
    ((50, 6), (66, 26)),
    ((66, 6), (50, 26)),
)


def paint_pattern(canvas: Image.Image, name: str, phase: int) -> None:
    """Darken a canvas in place along diagonal stripes or on every other square; ``phase`` shifts the pattern."""
    size = canvas.width
    where = Image.new("L", canvas.size, 0)
    draw = ImageDraw.Draw(where)
    if name == "diagonal":
        for start in range(phase % _DIAGONAL_PERIOD - size - _DIAGONAL_PERIOD, size, _DIAGONAL_PERIOD):
            draw.line([(start, size), (start + size, 0)], fill=255, width=_DIAGONAL_WIDTH)
    else:
        shift = phase % (2 * _CHECK) - 2 * _CHECK
        for row, top in enumerate(range(shift, size, _CHECK)):
            for left in range(shift + (row % 2) * _CHECK, size, 2 * _CHECK):
                draw.rectangle([left, top, left + _CHECK - 1, top + _CHECK - 1], fill=255)
    canvas.paste(canvas.point(lambda value: int(value * _PATTERN_SHADE)), (0, 0), where)


def paint_frame(canvas: Image.Image, name: str) -> Image.Image:
    """Draw a frame along the border of a canvas in place, and return its mask (0 or 255)."""
    size = canvas.width
    inside = [_FRAME_WIDTH, _FRAME_WIDTH, size - _FRAME_WIDTH - 1, size - _FRAME_WIDTH - 1]
    layer = Image.new("L", canvas.size, 255)
    ImageDraw.Draw(layer).rectangle(inside, fill=0)
    canvas.paste(_FRAME_PAINT[name], (0, 0), layer)
    return layer


def paint_mark(canvas: Image.Image) -> Image.Image:
    """Draw the translucent watermark near the lower right corner of a canvas in place, and return its mask."""
    left, top, right, bottom = _MARK_BOX
    label = Image.new("RGB", (right - left, bottom - top), _MARK_PAPER)
    draw = ImageDraw.Draw(label)
    for stroke in _MARK_STROKES:
        draw.line(stroke, fill=_MARK_INK, width=4)
    canvas.paste(Image.blend(canvas.crop(_MARK_BOX), label, _MARK_OPACITY), _MARK_BOX[:2])
    layer = Image.new("L", canvas.size, 0)
    layer.paste(255, _MARK_BOX)
    return layer
