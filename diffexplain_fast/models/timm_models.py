"""Classifiers of timm, an optional extra: safetensors weights, preprocessing from the model's data configuration."""

import math
from collections.abc import Sequence
from types import ModuleType
from typing import TypedDict

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from torch import nn

from diffexplain_fast.environment import extra
from diffexplain_fast.errors import UnsafeFileError, describe, unknown_name, wrong_value
from diffexplain_fast.models.parts import Parts
from diffexplain_fast.models.preprocess import Preprocess
from diffexplain_fast.ops.resize_normalize import MODES
from diffexplain_fast.targets.outputs import SOFTMAX

_SAFE_NAME = "model.safetensors"


def load_timm(name: str, *, revision: str | None, local_files_only: bool) -> Parts:
    """Load a pretrained classifier of timm with the labels of the ImageNet that it was trained on.

    Args:
        name: name in timm, with or without the tag of its weights, such as "resnet50.a1_in1k".
        revision: branch, tag or commit of the weights' hub repository.
        local_files_only: True to read the weights only from the cache.

    Raises:
        ImportError: timm is not installed.
        UnknownNameError: no such model.
        UnsafeFileError: the weights are published only as a pickle.
        ValueError: a preprocessing that cannot be written as resize, crop and normalisation.
    """
    timm = extra("timm", "classifier")
    if not timm.is_model(name.partition(".")[0]):
        raise unknown_name("timm model", name, timm.list_models())
    if "." in name and name not in timm.list_pretrained():
        raise unknown_name("timm model", name, timm.list_pretrained())
    published = timm.get_pretrained_cfg(name)
    if published is None or not published.hf_hub_id:
        raise UnsafeFileError(describe("timm model", "weights as safetensors on the hub", f"none for {name}"))
    if not published.num_classes:
        raise wrong_value("timm model", "a classifier", f"{name}, which has no classes")
    named = published.hf_hub_filename or ""
    file = named if named.endswith(".safetensors") else _SAFE_NAME
    try:
        weights = hf_hub_download(published.hf_hub_id, file, revision=revision, local_files_only=local_files_only)
    except LocalEntryNotFoundError:
        raise  # not in the cache and no network: which files were published is not known
    except EntryNotFoundError as error:
        got = f"none in {published.hf_hub_id}"
        raise UnsafeFileError(describe("timm model", f"weights as safetensors ({file})", got)) from error
    # timm reads the file by its suffix, and adapts old names of weights as for its own downloads.
    overlay = {"file": weights, "custom_load": False}
    model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    preprocess = preprocess_of(timm.data.resolve_model_data_config(model))
    return Parts(model, preprocess, _labels(timm, model), f"timm/{name}", output=SOFTMAX)


class DataConfig(TypedDict):
    """The entries of timm's data configuration of a model that are read here."""

    input_size: tuple[int, int, int]
    crop_pct: float
    crop_mode: str
    interpolation: str
    mean: Sequence[float]
    std: Sequence[float]


def preprocess_of(config: DataConfig) -> Preprocess:
    """Return timm's evaluation transform as a function of pixels, from its data configuration.

    Args:
        config: input_size (3, H, W), crop_pct, crop_mode, interpolation, mean and std.

    Raises:
        ValueError: another number of channels, interpolation or crop mode.
    """
    channels, height, width = config["input_size"]
    if channels != 3:
        raise wrong_value("timm model", "three input channels", channels)
    if config["interpolation"] not in MODES:
        raise wrong_value("timm model's interpolation", " or ".join(MODES), config["interpolation"])
    mode = config["crop_mode"]
    if mode != "squash" and (mode != "center" or height != width):
        raise wrong_value("timm model's crop_mode", "squash, or center of a square", f"{mode} of {height} x {width}")
    before = tuple(math.floor(side / config["crop_pct"]) for side in (height, width))
    return Preprocess(
        size=before[0] if mode == "center" else (before[0], before[1]),
        mode=config["interpolation"],
        crop=(height, width),
        rounds=True,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def _labels(timm: ModuleType, model: nn.Module) -> tuple[str, ...] | None:
    """Return the class names of the ImageNet that the model was trained on, or None for another data set."""
    subset = timm.data.infer_imagenet_subset(model)
    return None if subset is None else tuple(timm.data.ImageNetInfo(subset).label_descriptions())
