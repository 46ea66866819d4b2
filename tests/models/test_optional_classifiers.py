"""timm and torchvision: the error without them, and their preprocessing, whose tests need neither."""

import importlib.util
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffexplain_fast.errors import UnknownNameError
from diffexplain_fast.models import timm_models, torchvision_models
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.preprocess import Preprocess

TIMM: dict[str, Any] = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 0.95,
    "crop_mode": "center",
}
STATISTICS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class Interpolation(Enum):
    """The values of torchvision's InterpolationMode."""

    BILINEAR = "bilinear"
    NEAREST = "nearest"


def torchvision_steps(**changes: Any) -> SimpleNamespace:
    steps = {"crop_size": [224], "resize_size": [232], "interpolation": Interpolation.BILINEAR}
    return SimpleNamespace(**{**steps, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], **changes})


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_an_absent_extra_says_how_to_install_it(library: str) -> None:
    if importlib.util.find_spec(library):
        pytest.skip(f"{library} is installed")
    with pytest.raises(ImportError, match=rf"classifier: .* {library} \(pip install 'diffexplain-fast\[{library}\]'\)"):
        Classifier.from_pretrained(f"{library}/resnet50")


def test_the_steps_of_timms_transform_are_read() -> None:
    assert timm_models.preprocess_of(TIMM) == Preprocess(235, "bicubic", (224, 224), rounds=True, **STATISTICS)
    squash = timm_models.preprocess_of(TIMM | {"crop_mode": "squash", "input_size": (3, 192, 256), "crop_pct": 1.0})
    assert (squash.size, squash.crop) == ((192, 256), (192, 256))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": (1, 28, 28)}, "three input channels, got 1"),
        ({"interpolation": "random"}, "interpolation: wanted bilinear or bicubic, got random"),
        ({"crop_mode": "border"}, "crop_mode: wanted squash, or center of a square, got border of 224 x 224"),
        ({"input_size": (3, 224, 192)}, "got center of 224 x 192"),
    ],
)
def test_other_steps_of_timm_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm_models.preprocess_of(TIMM | changes)


def test_the_steps_of_torchvisions_transform_are_read() -> None:
    expected = Preprocess(232, "bilinear", (224, 224), rounds=True, **STATISTICS)
    assert torchvision_models.preprocess_of(torchvision_steps()) == expected


def test_other_steps_of_torchvision_are_refused() -> None:
    with pytest.raises(ValueError, match="interpolation: wanted bilinear or bicubic, got nearest"):
        torchvision_models.preprocess_of(torchvision_steps(interpolation=Interpolation.NEAREST))
    with pytest.raises(ValueError, match="an image classifier, whose transform has crop_size"):
        torchvision_models.preprocess_of(SimpleNamespace(resize_size=[520]))


def smooth_picture() -> Image.Image:
    rows, columns = np.mgrid[0:300, 0:340]
    return Image.fromarray(np.stack([rows / 2 + 40, columns / 2 + 30, (rows + columns) / 4 + 40], -1).astype(np.uint8))


def largest_error(theirs: Any, steps: Preprocess) -> float:
    """Return the largest difference in levels of 256."""
    pixels = torch.from_numpy(np.array(smooth_picture())).permute(2, 0, 1)[None].float() / 255
    return float(
        ((theirs(smooth_picture()) - steps(pixels)[0]) * torch.tensor(steps.std).view(3, 1, 1)).abs().max() * 255
    )


def test_timms_own_transform_agrees() -> None:
    timm = pytest.importorskip("timm")
    for name in ("resnet50.a1_in1k", "vit_base_patch16_224.augreg2_in21k_ft_in1k"):
        config = timm.data.resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        theirs = timm.data.create_transform(**config, is_training=False)
        assert largest_error(theirs, timm_models.preprocess_of(config)) <= 1.05
    with pytest.raises(UnknownNameError, match=r"nearest: .*resnet50"):
        Classifier.from_pretrained("timm/resnet51")


def test_torchvisions_own_transform_agrees() -> None:
    models = pytest.importorskip("torchvision").models
    for name in ("resnet50", "vit_b_16"):
        theirs = models.get_model_weights(name).DEFAULT.transforms()
        assert largest_error(theirs, torchvision_models.preprocess_of(theirs)) <= 1.05
    with pytest.raises(UnknownNameError, match="nearest: resnet50"):
        Classifier.from_pretrained("torchvision/resnet51")
