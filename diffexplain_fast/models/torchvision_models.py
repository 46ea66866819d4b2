"""Classifiers of torchvision (an optional extra): preprocessing and labels from the description of their weights."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import torch

from diffexplain_fast.environment import extra
from diffexplain_fast.errors import unknown_name, wrong_value
from diffexplain_fast.models.parts import Parts
from diffexplain_fast.models.preprocess import Preprocess
from diffexplain_fast.ops.resize_normalize import MODES
from diffexplain_fast.targets.outputs import SOFTMAX

if TYPE_CHECKING:
    from torchvision.transforms._presets import ImageClassification

_AS_TRAINED: dict[str, dict[str, bool]] = {
    "googlenet": {"transform_input": True, "aux_logits": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "aux_logits": True, "init_weights": False},
}
"""Arguments that torchvision adds itself when it loads the weights."""


def load_torchvision(name: str, *, revision: str | None, local_files_only: bool) -> Parts:
    """Load a pretrained classifier of torchvision.

    torchvision publishes only pickles. They are checked against the hash in their name and read by torch's
    weights-only unpickler, which creates tensors and runs no code.

    Args:
        name: name in torchvision, such as "resnet50".
        revision: name of the weights, such as "IMAGENET1K_V1"; the default weights if None.
        local_files_only: True to read the weights only from torch's cache.

    Raises:
        ImportError: torchvision is not installed.
        UnknownNameError: no such model or weights.
        ValueError: not an image classifier, or weights that are not in the cache.
    """
    models = extra("torchvision", "classifier").models
    known = models.list_models(module=models)  # without detection, segmentation, video and integer arithmetic
    if name not in known:
        raise unknown_name("torchvision model", name, known)
    kinds = models.get_model_weights(name)
    if revision is not None and revision not in kinds.__members__:
        raise unknown_name("torchvision weights", revision, kinds.__members__)
    weights = kinds.DEFAULT if revision is None else kinds[revision]
    preprocess = preprocess_of(weights.transforms())
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    if local_files_only and not cached.is_file():
        raise wrong_value("torchvision model", f"weights in {cached}", "no such file")
    labels = tuple(weights.meta["categories"])
    model = models.get_model(name, weights=None, num_classes=len(labels), **_AS_TRAINED.get(name, {}))
    model.load_state_dict(
        weights.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
    )
    return Parts(model, preprocess, labels, f"torchvision/{name}", output=SOFTMAX)


def preprocess_of(transforms: "ImageClassification") -> Preprocess:
    """Return torchvision's transform of a classifier as a function of pixels.

    Args:
        transforms: transform with crop_size, resize_size, interpolation, mean and std.

    Raises:
        ValueError: the transform of another task, or another interpolation.
    """
    missing = [
        key for key in ("crop_size", "resize_size", "interpolation", "mean", "std") if not hasattr(transforms, key)
    ]
    if missing:
        wanted = "an image classifier, whose transform has " + ", ".join(missing)
        raise wrong_value("torchvision model", wanted, type(transforms).__name__)
    if transforms.interpolation.value not in MODES:
        raise wrong_value("torchvision model's interpolation", " or ".join(MODES), transforms.interpolation.value)
    (crop,), (size,) = transforms.crop_size, transforms.resize_size
    return Preprocess(
        size=size,
        mode=transforms.interpolation.value,
        crop=(crop, crop),
        rounds=True,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )
