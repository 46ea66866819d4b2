"""Image processors of transformers as differentiable functions of pixels, compared with the processor itself."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from diffexplain_fast.errors import first_line, wrong_value
from diffexplain_fast.models.preprocess import Preprocess

if TYPE_CHECKING:
    from transformers import BaseImageProcessor

REMEDY = "or load the model yourself and pass it to Classifier(model, preprocess=...)"
_MODES = {2: "bilinear", 3: "bicubic", "bilinear": "bilinear", "bicubic": "bicubic"}
"""Interpolations of a resize by PIL's number and by torchvision's name."""
_LARGE_CONVNEXT = 384
"""Size in pixels from which ConvNext's processor resizes the whole image instead of cropping its centre."""
_ORDINARY = ("Beit", "DINOv3ViT", "MobileNetV2", "MobileViT", "Segformer")
"""Processors whose own code does not change resize, scale and normalisation of an image."""
_UNCROPPED = ("Segformer",)
"""Those whose own code leaves the crop out, whatever their options say."""
_PICTURES = ((61, 75), (40, 33))
"""Heights and widths of the pictures on which a function is compared with its processor."""
_LEVELS = 1.0
"""Largest mean difference of the two, in levels of pixels from 0 to 255: each rounds to whole levels once or twice."""


def preprocess_of(processor: "BaseImageProcessor", name: str = "image processor") -> Preprocess:
    """Return a transformers image processor as a function of pixels in [0, 1].

    Args:
        processor: an instance.
        name: of the processor in messages, such as the path of its file.

    Raises:
        ValueError: a step that is not a resize, centre crop, scale or normalisation, an option out of range, or a
            processor that makes something else of two pictures than the function.
    """
    kind = type(processor).__name__.removesuffix("Pil").removesuffix("Fast").removesuffix("ImageProcessor")
    methods = ("resize", "center_crop", "rescale", "normalize", "_preprocess")
    found_in = {method: getattr(getattr(type(processor), method, None), "__module__", ".models.") for method in methods}
    own_methods = [method for method, module in found_in.items() if ".models." in module]
    if kind != "ConvNext" and (getattr(processor, "do_pad", False) or (own_methods and kind not in _ORDINARY)):
        wanted = f"only resize, centre crop, scale and normalisation, {REMEDY}"
        raise wrong_value(name, wanted, f"{type(processor).__name__}, which has its own {', '.join(own_methods)}")
    size, crop = _size(processor, name) if processor.do_resize else None, None
    if getattr(processor, "do_center_crop", False) and kind not in _UNCROPPED:
        crop = _sides(f"{name} crop_size", processor.crop_size, "height and width, because do_center_crop is true")
    if kind == "ConvNext" and isinstance(size, int):
        size, crop = _of_convnext(size, crop, _number(f"{name} crop_pct", processor.crop_pct))
    smallest = 0 if size is None else size if isinstance(size, int) else min(size)
    pads = crop is not None and smallest < max(crop)
    scale = 255.0 * (_number(f"{name} rescale_factor", processor.rescale_factor) if processor.do_rescale else 1.0)
    normalise = processor.do_normalize
    found = Preprocess(
        size=size,
        mode="bilinear" if size is None else _mode(processor.resample, name),
        crop=crop,
        more_before=pads and type(processor).__name__.endswith("Pil"),
        scale=1.0 if abs(scale - 1) < 1e-6 else scale,
        bgr=bool(getattr(processor, "do_flip_channel_order", False)),
        mean=_per_channel(f"{name} image_mean", processor.image_mean) if normalise else None,
        std=_per_channel(f"{name} image_std", processor.image_std, zero=False) if normalise else None,
    )
    for height, width in _PICTURES:
        _compare(processor, found, name, height, width)
    return found


def _of_convnext(
    size: int, crop: tuple[int, int] | None, share: float
) -> tuple[tuple[int, int] | int, tuple[int, int] | None]:
    """Return size and crop of ConvNext's resize, which crops small pictures by itself, and of the crop after it."""
    if size >= _LARGE_CONVNEXT:
        return (size, size), crop
    return int(size / share), (size, size) if crop is None else crop


def _compare(processor: "BaseImageProcessor", steps: Preprocess, name: str, height: int, width: int) -> None:
    """Refuse steps that make something else of a picture than the processor."""
    seen = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels = torch.from_numpy(seen).permute(2, 0, 1)[None].float() / 255
    what = f"{type(processor).__name__}, whose picture of {height} x {width}"
    wanted = f"a processor that resizes, crops, scales and normalises as its options say, {REMEDY}"
    try:
        theirs = torch.as_tensor(processor(Image.fromarray(seen), return_tensors="pt")["pixel_values"])
    except Exception as error:  # the code of any processor, on options of any file
        raise wrong_value(name, wanted, f"{what} ends in {first_line(error)}") from error
    ours = steps(pixels)
    if ours.shape != theirs.shape:
        raise wrong_value(name, wanted, f"{what} becomes {list(theirs.shape[1:])} and not {list(ours.shape[1:])}")
    level = steps.scale / 255 / torch.tensor(steps.std or (1.0,)).view(-1, 1, 1).abs()
    apart = float(((ours - theirs) / level).abs().mean())
    if not apart <= _LEVELS:
        raise wrong_value(name, wanted, f"{what} differs by {apart:.3g} levels of 255")


def _size(processor: "BaseImageProcessor", name: str) -> tuple[int, int] | int:
    size = processor.size
    if size and size.height and size.width:
        return _sides(f"{name} size", size, "height and width of at least 1")
    if size and size.shortest_edge and not size.longest_edge:
        if not _is_side(size.shortest_edge):
            raise wrong_value(f"{name} size", "a shortest_edge of at least 1", size.shortest_edge)
        return size.shortest_edge
    raise wrong_value(f"{name} size", "height and width, or shortest_edge", dict(size) if size else size)


def _sides(argument: str, size: object, wanted: str) -> tuple[int, int]:
    height, width = getattr(size, "height", None), getattr(size, "width", None)
    if not (_is_side(height) and _is_side(width)):
        raise wrong_value(argument, wanted, None if size is None else {"height": height, "width": width})
    assert isinstance(height, int) and isinstance(width, int)
    return height, width


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _mode(resample: object, name: str) -> str:
    number = getattr(resample, "value", resample)
    if number not in _MODES:
        raise wrong_value(f"{name} resample", f"2 (bilinear) or 3 (bicubic), {REMEDY}", resample)
    return _MODES[number]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(argument: str, value: float) -> float:
    if not _is_number(value) or value <= 0:
        raise wrong_value(argument, "a number above 0", repr(value))
    return value


def _per_channel(argument: str, values: object, *, zero: bool = True) -> tuple[float, ...]:
    listed = [values] if isinstance(values, int | float) else list(values) if isinstance(values, Iterable) else []
    if len(listed) not in (1, 3) or not all(_is_number(value) and (zero or value != 0) for value in listed):
        wanted = "a number, or one for each of three channels" + ("" if zero else ", none of them 0")
        raise wrong_value(argument, wanted, repr(list(values) if isinstance(values, tuple) else values))
    return tuple(map(float, listed))
