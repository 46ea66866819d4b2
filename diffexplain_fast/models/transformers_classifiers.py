"""Image classifiers in the transformers format: safetensors weights, preprocessing as a differentiable function."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from huggingface_hub import snapshot_download
from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, AutoConfig, AutoModelForImageClassification

# Imported from its module: under the top-level name, transformers 5.17 has a class that requires torchvision.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.utils import logging

from diffexplain_fast.errors import CorruptFileError, callers_level, describe, first_line, wrong_value
from diffexplain_fast.models.frozen import frozen
from diffexplain_fast.models.image_processors import REMEDY, preprocess_of
from diffexplain_fast.models.labels import labels_of_config
from diffexplain_fast.models.parts import Parts
from diffexplain_fast.models.preprocess import Preprocess
from diffexplain_fast.models.weight_files import asking_hub, check_weights, local_folder, read_object
from diffexplain_fast.quiet import without_bars
from diffexplain_fast.records import JsonObject
from diffexplain_fast.targets.outputs import SOFTMAX

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_CONFIG, _STEPS, _WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
_FILES = [_CONFIG, _STEPS, _WEIGHTS, f"{_WEIGHTS}.index.json", "model-*.safetensors"]
_ANY_SIZE = 224
"""Side in pixels of the picture that tests a model if neither processor nor configuration names a size."""


def load_transformers(source: str | Path, *, revision: str | None, local_files_only: bool) -> Parts:
    """Load an image classifier from a folder or, once downloaded, from the hub; it runs no code of the repository.

    Args:
        source: folder that ``save_pretrained`` wrote, or hub id "owner/name".
        revision: branch, tag or commit of a hub id.
        local_files_only: True to read a hub id only from the cache; a folder never needs the network.

    Raises:
        ValueError: no such folder, not an image classifier (the message says what is missing), or a preprocessing that
            cannot be written as resize, crop, scale and normalisation.
        UnsafeFileError: only pickled weights; nothing was read.
        CorruptFileError: a file is damaged.
        FileNotFoundError: a hub id that is neither in the cache nor on the hub.
    """
    folder = local_folder("classifier", source)
    name = str(source) if folder is None else folder.resolve().name
    if folder is None:
        with asking_hub("classifier", name):
            downloaded = snapshot_download(
                name, revision=revision, local_files_only=local_files_only, allow_patterns=_FILES
            )
        folder = Path(str(downloaded))
    if not (folder / _CONFIG).is_file():
        raise wrong_value("classifier", f"a transformers image classifier with {_CONFIG}", f"none in {folder}")
    content = read_object(folder / _CONFIG)
    variant = check_weights("classifier", folder, (_WEIGHTS,))
    with _quiet():
        config = _read_config(folder, content)
        _check_channels(folder, config)
        model = _read_model(folder, config, variant)
        preprocess = _read_preprocess(folder, config)
    _check_size(folder, model.eval(), preprocess, config)
    labels = labels_of_config(config.id2label, config.num_labels)
    # Heads of transformers end in logits, so no probe pictures are needed; one logit is warned about at the first call.
    certain = config.problem_type is None and config.num_labels > 1
    return Parts(model, preprocess, labels, name, output=SOFTMAX if certain else None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Switch off the progress bars of transformers and its advice on things that are checked here."""
    level = logging.get_verbosity()
    try:
        logging.set_verbosity(logging.CRITICAL)
        with without_bars(logging):
            yield
    finally:
        logging.set_verbosity(level)


def _read_config(folder: Path, content: JsonObject) -> "PretrainedConfig":
    if isinstance(names := content.get("id2label"), list):  # some tools write a list, but transformers reads a dict
        content = {**content, "id2label": dict(enumerate(names))}
    elif isinstance(names, dict):
        labels_of_config(names, 0)  # raises for a key that is not a class index
    try:
        config = AutoConfig.for_model(**content) if isinstance(names, list) else _from_folder(folder)
    except Exception as error:  # of the code of any configuration, on values of any file
        wanted = f"a {_CONFIG} with a model_type of transformers, and values that it takes"
        raise wrong_value("classifier", wanted, f"{folder}: {first_line(error)}") from error
    if type(config) not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise wrong_value("classifier", "an image classifier", f"the model_type {config.model_type!r} in {folder}")
    config.return_dict = True  # a tuple has no place that says which of its parts are the logits
    return config


def _from_folder(folder: Path) -> "PretrainedConfig":
    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _check_channels(folder: Path, config: "PretrainedConfig") -> None:
    channels = getattr(config, "num_channels", 3)
    if channels != 3:
        wanted = f"three channels, red, green and blue, {REMEDY}"
        raise wrong_value("classifier", wanted, f"num_channels {channels} in {folder / _CONFIG}")


def _check_size(
    folder: Path, model: "PreTrainedModel", preprocess: Preprocess | None, config: "PretrainedConfig"
) -> None:
    """Run a model on one picture of the size that its processor gives, so that it refuses such pictures now."""
    named = getattr(config, "image_size", None)
    size = named if isinstance(named, int) else _ANY_SIZE
    picture = torch.zeros(1, 3, size, size)
    seen = picture if preprocess is None else preprocess(picture)
    try:
        with frozen(model), torch.no_grad():
            answer = model(seen).logits
    except Exception as error:  # of the code of any model, on values of any configuration
        taken = f"pixels {list(seen.shape[1:])}, as {_STEPS} gives them"
        got = f"a model in {folder} that does not: {first_line(error)}"
        raise wrong_value("classifier", f"a model that takes {taken}", got) from error
    if answer.shape[1] != config.num_labels:
        wanted = f"one logit for each of the {config.num_labels} labels in {_CONFIG}"
        raise wrong_value("classifier", wanted, f"{answer.shape[1]} logits")


def _read_model(folder: Path, config: "PretrainedConfig", variant: str | None) -> "PreTrainedModel":
    try:
        model, loading = AutoModelForImageClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            variant=variant,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported together with the missing weights
        )
    except (OSError, CorruptFileError):
        raise
    except Exception as error:  # of the code of any model, on values of any configuration
        wanted = f"a {_CONFIG} with values of which transformers makes a model"
        raise wrong_value("classifier", wanted, f"{folder}: {first_line(error)}") from error
    missing = sorted({*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])})
    if missing:
        names = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        wanted = f"all weights of {type(model).__name__}"
        raise wrong_value("classifier", wanted, f"{folder} without {names} in the shape of its {_CONFIG}")
    return model


def _read_preprocess(folder: Path, config: "PretrainedConfig") -> Preprocess | None:
    """Return the folder's image processor as a function of pixels."""
    if not (folder / _STEPS).is_file():
        return _without_processor(folder, config)
    read_object(folder / _STEPS)
    try:
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of the code of any processor, on options of any file
        wanted = f"a {_STEPS} of a transformers image processor, {REMEDY}"
        raise wrong_value("classifier", wanted, f"{folder}: {first_line(error)}") from error
    return preprocess_of(processor, str(folder / _STEPS))


def _without_processor(folder: Path, config: "PretrainedConfig") -> Preprocess | None:
    """Refuse a folder without an image processor and without names of the classes.

    A folder whose classes have names was made for use: its model gets pixels in [0, 1] of the size in the
    configuration, with a warning.
    """
    wanted = f"a {_STEPS}, which says what the model does to pixels, {REMEDY}"
    if labels_of_config(config.id2label, config.num_labels) is None:
        raise wrong_value("classifier", wanted, f"none in {folder}")
    size = getattr(config, "image_size", None)
    size = (size, size) if isinstance(size, int) else size
    taken = "their own size" if size is None else f"{size[0]} x {size[1]}"
    got = f"none in {folder}: its model is given pixels in [0, 1] of {taken}, which is wrong if it normalises them"
    warnings.warn(describe("classifier", wanted, got), UserWarning, stacklevel=callers_level())
    return None if size is None else Preprocess(size=(size[0], size[1]))
