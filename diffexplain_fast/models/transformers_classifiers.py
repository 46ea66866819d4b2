"""Image classifiers in the transformers format: safetensors weights, preprocessing as a differentiable function."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, AutoConfig, AutoModelForImageClassification

# By its own module: under transformers' name 5.17 has a class that only asks for torchvision, which is not needed.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.utils import logging

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.models.parts import Parts
from diffexplain_fast.models.preprocess import Preprocess
from diffexplain_fast.models.weight_files import asking_hub, check_weights, local_folder, read_object

_CONFIG, _STEPS, _WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
_FILES = [_CONFIG, _STEPS, _WEIGHTS, f"{_WEIGHTS}.index.json", "model-*.safetensors"]
_MODES = {2: "bilinear", 3: "bicubic", "bilinear": "bilinear", "bicubic": "bicubic"}
"""PIL's numbers and torchvision's names of the interpolations that images are resized with."""
_LARGE_CONVNEXT = 384
"""From this size on ConvNext's processor squeezes the whole image instead of cutting its centre out; pixels."""
_ORDINARY = ("Beit", "DINOv3ViT", "MobileNetV2", "MobileViT", "Segformer")
"""Processors with code of their own that leaves resize, crop, scale and normalisation of an image as they are."""
_REMEDY = "or load the model yourself and pass it to Classifier(model, preprocess=...)"


def load_transformers(source: str | Path, *, revision: str | None, local_files_only: bool) -> Parts:
    """Load an image classifier from a folder or, once downloaded, from the hub; no code of the repository is run.

    Args:
        source: folder as ``save_pretrained`` writes it, or hub id "owner/name".
        revision: branch, tag or commit of a hub id.
        local_files_only: read a hub id from the cache alone; a folder never touches the network.

    Raises:
        ValueError: no such folder, no image classifier (the message says what is missing), or a preprocessing that
            cannot be written as resize, crop, scale and normalisation.
        UnsafeFileError: pickled weights only; nothing was read.
        CorruptFileError: a file is damaged.
        FileNotFoundError: a hub id that is neither in the cache nor on the hub.
    """
    folder = local_folder("classifier", source)
    name = str(source) if folder is None else folder.resolve().name
    if folder is None:
        with asking_hub("classifier", name):
            found = snapshot_download(name, revision=revision, local_files_only=local_files_only, allow_patterns=_FILES)
        folder = Path(str(found))
    if not (folder / _CONFIG).is_file():
        raise wrong_value("classifier", f"a transformers image classifier with {_CONFIG}", f"none in {folder}")
    read_object(folder / _CONFIG)
    check_weights("classifier", folder, (_WEIGHTS,))
    with _quiet():
        config = _read_config(folder)
        model = _read_model(folder, config)
        preprocess = _read_preprocess(folder, config)
    return Parts(model, preprocess, _labels(config), name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from drawing bars and from giving advice on what is checked here."""
    level, drawing = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.set_verbosity(logging.CRITICAL)
        logging.disable_progress_bar()
        yield
    finally:
        logging.set_verbosity(level)
        if drawing:
            logging.enable_progress_bar()


def _read_config(folder: Path) -> Any:
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except ValueError as error:
        wanted = f"a {_CONFIG} with a model_type of transformers"
        raise wrong_value("classifier", wanted, f"{folder}: {str(error).splitlines()[0]}") from error
    if type(config) not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise wrong_value("classifier", "an image classifier", f"the model_type {config.model_type!r} in {folder}")
    return config


def _read_model(folder: Path, config: Any) -> Any:
    model, found = AutoModelForImageClassification.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # reported with what is missing
    )
    missing = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
    if missing:
        names = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        wanted = f"all weights of {type(model).__name__}"
        raise wrong_value("classifier", wanted, f"{folder} without {names} in the shape of its {_CONFIG}")
    return model


def _labels(config: Any) -> tuple[str, ...] | None:
    """Return the class names in order, None if nobody gave the classes names."""
    names = config.id2label
    labels = tuple(str(names[index]) for index in range(len(names)))
    return None if labels == tuple(f"LABEL_{index}" for index in range(len(labels))) else labels


def _read_preprocess(folder: Path, config: Any) -> Preprocess | None:
    """Return what the folder's image processor does; without one, the size that the configuration names."""
    if not (folder / _STEPS).is_file():
        size = getattr(config, "image_size", None)
        size = (size, size) if isinstance(size, int) else size
        return None if size is None else Preprocess(size=(size[0], size[1]))
    read_object(folder / _STEPS)
    try:
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except ValueError as error:
        wanted = f"a {_STEPS} of a transformers image processor, {_REMEDY}"
        raise wrong_value("classifier", wanted, f"{folder}: {str(error).splitlines()[0]}") from error
    return preprocess_of(processor)


def preprocess_of(processor: Any) -> Preprocess:
    """Return what a transformers image processor does to an image, as a function of pixels in [0, 1].

    Raises:
        ValueError: a step that is no resize, centre crop, scale or normalisation.
    """
    kind = type(processor).__name__.removesuffix("Pil").removesuffix("Fast").removesuffix("ImageProcessor")
    methods = ("resize", "center_crop", "rescale", "normalize", "_preprocess")
    own = [name for name in methods if ".models." in getattr(type(processor), name).__module__]
    if kind != "ConvNext" and (getattr(processor, "do_pad", False) or (own and kind not in _ORDINARY)):
        wanted = f"only resize, centre crop, scale and normalisation, {_REMEDY}"
        raise wrong_value("image processor", wanted, f"what {type(processor).__name__} does in {', '.join(own)}")
    size, crop = _size(processor) if processor.do_resize else None, None
    if kind == "ConvNext" and isinstance(size, int):
        large = size >= _LARGE_CONVNEXT
        size, crop = ((size, size), None) if large else (int(size / processor.crop_pct), (size, size))
    elif getattr(processor, "do_center_crop", False):
        crop = processor.crop_size.height, processor.crop_size.width
    scale = 255.0 * processor.rescale_factor if processor.do_rescale else 255.0
    normalise = processor.do_normalize
    return Preprocess(
        size=size,
        mode="bilinear" if size is None else _mode(processor.resample),
        crop=crop,
        scale=1.0 if abs(scale - 1) < 1e-6 else scale,
        bgr=bool(getattr(processor, "do_flip_channel_order", False)),
        mean=_per_channel(processor.image_mean) if normalise else None,
        std=_per_channel(processor.image_std) if normalise else None,
    )


def _size(processor: Any) -> tuple[int, int] | int:
    size = processor.size
    if size.height and size.width:
        return size.height, size.width
    if size.shortest_edge and not size.longest_edge:
        return size.shortest_edge
    raise wrong_value("image processor size", "height and width, or shortest_edge", dict(size))


def _mode(resample: Any) -> str:
    number = getattr(resample, "value", resample)
    if number not in _MODES:
        raise wrong_value("image processor resample", f"2 (bilinear) or 3 (bicubic), {_REMEDY}", resample)
    return _MODES[number]


def _per_channel(values: Any) -> tuple[float, ...]:
    return (float(values),) if isinstance(values, int | float) else tuple(map(float, values))
