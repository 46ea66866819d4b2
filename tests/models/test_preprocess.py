"""Preprocessing as a function of pixels, compared with the image processors that it replaces, and its gradient."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.autograd import gradcheck
from transformers.models.beit.image_processing_pil_beit import BeitImageProcessorPil
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.efficientnet.image_processing_pil_efficientnet import EfficientNetImageProcessorPil
from transformers.models.levit.image_processing_pil_levit import LevitImageProcessorPil
from transformers.models.mobilenet_v2.image_processing_pil_mobilenet_v2 import MobileNetV2ImageProcessorPil
from transformers.models.mobilevit.image_processing_pil_mobilevit import MobileViTImageProcessorPil
from transformers.models.perceiver.image_processing_pil_perceiver import PerceiverImageProcessorPil
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from diffexplain_fast.models.image_processors import preprocess_of
from diffexplain_fast.models.preprocess import Preprocess

PROCESSORS: list[tuple[type, dict[str, Any]]] = [
    (ViTImageProcessorPil, {"size": {"height": 32, "width": 40}}),
    (ViTImageProcessorPil, {"size": 48, "resample": 3}),
    (ViTImageProcessorPil, {"do_resize": False}),
    (ViTImageProcessorPil, {"size": 32, "do_normalize": False}),
    (ViTImageProcessorPil, {"size": 32, "do_rescale": False, "do_normalize": False}),
    (ViTImageProcessorPil, {"size": 32, "rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}),
    (CLIPImageProcessorPil, {"size": {"shortest_edge": 40}, "crop_size": 32}),
    (CLIPImageProcessorPil, {"size": 41, "crop_size": {"height": 32, "width": 30}}),
    (CLIPImageProcessorPil, {"size": {"shortest_edge": 40}, "do_center_crop": False}),
    (BitImageProcessorPil, {"size": {"shortest_edge": 30}, "crop_size": {"height": 50, "width": 20}}),
    (DeiTImageProcessorPil, {"size": 40, "crop_size": 32}),
    (ConvNextImageProcessorPil, {"size": {"shortest_edge": 32}, "crop_pct": 0.8}),
    (ConvNextImageProcessorPil, {"size": 384}),
    (ConvNextImageProcessorPil, {"size": 384, "do_center_crop": True, "crop_size": 224}),
    (
        ConvNextImageProcessorPil,
        {"size": 400, "resample": 2, "do_center_crop": True, "crop_size": {"height": 450, "width": 301}},
    ),
    (ConvNextImageProcessorPil, {"size": 40, "do_center_crop": True, "crop_size": 32}),
    (ConvNextImageProcessorPil, {"do_resize": False, "do_center_crop": True, "crop_size": 32}),
    (SegformerImageProcessorPil, {"size": 40}),
    (SegformerImageProcessorPil, {"size": 40, "do_center_crop": True, "crop_size": 32}),
    (BeitImageProcessorPil, {"size": 32, "crop_size": 24, "do_center_crop": True}),
    (MobileNetV2ImageProcessorPil, {"size": {"shortest_edge": 40}, "crop_size": 32}),
    (MobileViTImageProcessorPil, {"size": {"shortest_edge": 40}, "crop_size": 32}),
]
ROUNDING = 1.05
"""Pillow rounds to whole levels after each of its two passes: half a level each, and bicubic weights add a little."""

ROUNDING_AT_EDGES = 1.13
"""The same for very different neighbours: half a level of the first pass times 1.25, the largest sum of absolute
bicubic weights, plus half a level of the second pass."""


def picture(height: int = 61, width: int = 75) -> np.ndarray:
    """Return a picture [H, W, 3] of ramps and edges that bicubic overshoot keeps inside 0 to 255."""
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([rows * 2.5 + 20, columns * 2 + 40, rows + columns + 50], axis=-1)
    image[20:40, 20:50] = 200
    return image.astype(np.uint8)


def as_pixels(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize(
    ("kind", "settings"), PROCESSORS, ids=[f"{kind.__name__}-{i}" for i, (kind, _) in enumerate(PROCESSORS)]
)
def test_preprocess_equals_the_image_processor(kind: type, settings: dict[str, Any]) -> None:
    processor = kind(**settings)
    steps = preprocess_of(processor)
    expected = processor(Image.fromarray(picture()), return_tensors="pt")["pixel_values"]
    got = steps(as_pixels(picture()))
    assert got.shape == expected.shape
    level = steps.scale / 255 / torch.tensor(steps.std or (1.0,)).view(-1, 1, 1)
    assert ((got - expected) / level).abs().max() <= ROUNDING


RANDOM = [
    (CLIPImageProcessorPil, {"size": {"shortest_edge": 30}, "crop_size": 25}),
    (CLIPImageProcessorPil, {"size": {"shortest_edge": 20}, "crop_size": 33}),
    (
        CLIPImageProcessorPil,
        {"do_resize": False, "crop_size": {"height": 63, "width": 90}, "rescale_factor": 1 / 127.5},
    ),
    (ViTImageProcessorPil, {"size": {"height": 20, "width": 24}, "resample": 3}),
    (ViTImageProcessorPil, {"size": {"height": 20, "width": 24}, "resample": 2}),
    (ConvNextImageProcessorPil, {"size": 32}),
]


@pytest.mark.parametrize(
    ("kind", "settings"), RANDOM, ids=[f"{kind.__name__}-{i}" for i, (kind, _) in enumerate(RANDOM)]
)
@pytest.mark.parametrize("size", [(61, 75), (40, 33), (10, 11)], ids=str)
@pytest.mark.parametrize("extreme", [False, True])
def test_random_pictures_overshoot_and_are_cut_off_as_by_the_processor(
    kind: type, settings: dict[str, Any], size: tuple[int, int], extreme: bool
) -> None:
    processor = kind(**settings)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = np.where(image > 127, 255, 0).astype(np.uint8) if extreme else image
    expected = processor(Image.fromarray(image), return_tensors="pt")["pixel_values"]
    steps = preprocess_of(processor)
    got = steps(as_pixels(image))
    level = steps.scale / 255 / torch.tensor(steps.std or (1.0,)).view(-1, 1, 1)
    assert got.shape == expected.shape and ((got - expected) / level).abs().max() <= ROUNDING_AT_EDGES


@pytest.mark.parametrize("size", [(10, 10), (10, 14), (9, 20)], ids=str)
def test_an_odd_padding_is_where_the_processor_puts_it(size: tuple[int, int]) -> None:
    processor = CLIPImageProcessorPil(do_normalize=False, do_resize=False, crop_size={"height": 15, "width": 15})
    white = np.full((*size, 3), 255, dtype=np.uint8)
    expected = processor(Image.fromarray(white), return_tensors="pt")["pixel_values"]
    assert torch.equal(preprocess_of(processor)(as_pixels(white)), expected)
    assert repr(preprocess_of(processor)) == repr(Preprocess(crop=(15, 15))), "fingerprints stay as they are"


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (lambda: LevitImageProcessorPil(), "LevitImageProcessorPil, which has its own resize"),
        (
            lambda: PerceiverImageProcessorPil(),
            "PerceiverImageProcessorPil, which has its own center_crop, _preprocess",
        ),
        (
            lambda: EfficientNetImageProcessorPil(),
            "EfficientNetImageProcessorPil, which has its own rescale, _preprocess",
        ),
        (
            lambda: ViTImageProcessorPil(resample=0),
            r"wanted 2 \(bilinear\) or 3 \(bicubic\), or load the model yourself",
        ),
        (
            lambda: CLIPImageProcessorPil(size={"shortest_edge": 30, "longest_edge": 40}),
            "height and width, or shortest",
        ),
    ],
)
def test_a_processor_of_other_steps_is_refused(processor: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preprocess_of(processor())


PADDED = {"size": 32, "do_center_crop": True, "crop_size": 40}
"""ConvNext crops to 32, and then pads to 40, which one resize and one crop cannot do."""


class Brighter(ViTImageProcessorPil):
    """A processor of a user, with a step of its own outside of the methods that are looked at."""

    def _prepare_image_like_inputs(self, *args: Any, **options: Any) -> Any:
        return [image // 2 for image in super()._prepare_image_like_inputs(*args, **options)]


class Failing(ViTImageProcessorPil):
    def _prepare_image_like_inputs(self, *args: Any, **options: Any) -> Any:
        raise KeyError("pixels")


@pytest.mark.parametrize(
    ("processor", "got"),
    [
        (lambda: ConvNextImageProcessorPil(**PADDED), "ConvNextImageProcessorPil, whose picture of 61 x 75 differs by"),
        (lambda: Brighter(), "Brighter, whose picture of 61 x 75 differs by"),
        (lambda: Failing(), "Failing, whose picture of 61 x 75 ends in KeyError: 'pixels'"),
    ],
)
def test_a_processor_that_does_something_else_is_refused(processor: Any, got: str) -> None:
    with pytest.raises(ValueError, match=f"image processor: wanted a processor that resizes, .* got .*{got}"):
        preprocess_of(processor())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"do_center_crop": True}, "p crop_size: wanted height and width, because do_center_crop is true, got None"),
        ({"image_mean": None}, "p image_mean: wanted a number, or one for each of three channels, got None"),
        ({"image_mean": "x"}, "p image_mean: wanted .*, got 'x'"),
        ({"image_mean": [0.5, 0.5]}, r"p image_mean: wanted .*, got \[0.5, 0.5\]"),
        ({"image_std": [0.5, 0.5, 0]}, r"p image_std: wanted .*, none of them 0, got \[0.5, 0.5, 0\]"),
        ({"image_std": math.nan}, "p image_std: wanted .*, got nan"),
        ({"rescale_factor": 0}, "p rescale_factor: wanted a number above 0, got 0"),
        ({"rescale_factor": None}, "p rescale_factor: wanted a number above 0, got None"),
        ({"size": {"height": -3, "width": 32}}, "p size: wanted height and width of at least 1, got .*-3"),
        ({"size": {"shortest_edge": -3}}, "p size: wanted a shortest_edge of at least 1, got -3"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preprocess_of(ViTImageProcessorPil(**options), "p")


def test_the_gradient_of_preprocess_is_exact() -> None:
    steps = Preprocess(9, "bicubic", (5, 6), scale=255.0, bgr=True, mean=(1.0, 2.0, 3.0), std=(0.5, 0.6, 0.7))
    x = torch.rand(2, 3, 7, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert gradcheck(steps, x.requires_grad_())


def test_no_steps_change_nothing() -> None:
    x = as_pixels(picture())
    assert Preprocess()(x) is x


@pytest.mark.parametrize(("height", "width", "expected"), [(10, 20, (6, 12)), (20, 10, (12, 6)), (7, 7, (6, 6))])
def test_the_shorter_side_decides(height: int, width: int, expected: tuple[int, int]) -> None:
    assert Preprocess(size=6)(torch.rand(1, 3, height, width)).shape[-2:] == expected


def test_half_of_an_odd_border_is_rounded_as_configured() -> None:
    x = torch.arange(11.0).expand(1, 3, 11, 11)
    assert Preprocess(crop=(8, 8))(x)[0, 0, 0, 0] == 1  # a border of 3
    assert Preprocess(crop=(8, 8), rounds=True)(x)[0, 0, 0, 0] == 2
    assert Preprocess(crop=(6, 6), rounds=True)(x)[0, 0, 0, 0] == 2  # a border of 5: half of it rounds to even


def test_a_smaller_image_is_padded_with_black() -> None:
    y = Preprocess(crop=(4, 7), mean=(1.0,) * 3)(torch.ones(1, 3, 4, 4))
    assert y[0, 0, 0].tolist() == [-1, 0, 0, 0, 0, -1, -1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_preprocess_keeps_the_dtype(dtype: torch.dtype) -> None:
    steps = Preprocess((4, 4), crop=(3, 3), scale=255.0, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert steps(torch.rand(1, 3, 8, 8).to(dtype)).dtype == dtype
