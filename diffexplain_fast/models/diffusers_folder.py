"""Finding, checking and opening diffusers pipeline folders: safetensors only, checked before anything is loaded."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import diffusers
import torch
import transformers
from diffusers.utils import is_accelerate_available

from diffexplain_fast.errors import UnsafeFileError, describe, wrong_type, wrong_value
from diffexplain_fast.models.weight_files import asking_hub, check_weights, local_folder, read_object
from diffexplain_fast.quiet import without_bars
from diffexplain_fast.tinyworld.store import PIPELINES, pipeline_folder

_INDEX = "model_index.json"
_LIBRARIES = ("diffusers", "transformers")
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "model.safetensors")
_USUAL_VARIANT = "fp16"
"""The variant of the weights, besides none, that published pipelines have."""
_UNUSED = {
    "safety_checker": None,
    "requires_safety_checker": False,
    "feature_extractor": None,
    "image_encoder": None,
    "add_watermarker": False,
}
"""Components that no explanation uses; they are neither downloaded nor loaded. Each pipeline class has some of them."""


def find_folder(source: str | Path, *, revision: str | None, local_files_only: bool) -> tuple[Path, str]:
    """Return the folder of a pipeline and its name in results; a hub id is downloaded once.

    Args:
        source: "tinyworld" or "tinyworld-lcm", a local folder, or a hub id "owner/name".
        revision: branch, tag or commit of a hub id.
        local_files_only: True to make no requests to the hub.

    Raises:
        ValueError: there is no such folder and the source cannot be a hub id.
        UnsafeFileError: a pickled checkpoint file, or a hub repository with only pickled weights.
        FileNotFoundError: a hub id that is neither in the cache nor on the hub.
    """
    if isinstance(source, str) and source in PIPELINES:
        return Path(pipeline_folder()), source
    path, text = local_folder("pipeline", source), str(source)
    if path is not None:
        return path, path.resolve().name
    # Without a network diffusers says so in two lines, and the error says it too.
    with asking_hub("pipeline", text), _errors_only(diffusers.utils.logging):
        folder = _download(text, revision, local_files_only)
    return Path(folder), text


def _download(source: str, revision: str | None, local_files_only: bool) -> str:
    """Return the folder of a hub id; of a repository with weights of the usual variant only, these are taken."""
    options = {"use_safetensors": True, "revision": revision, "local_files_only": local_files_only, **_UNUSED}
    missing: OSError | None = None
    for variant in (None, _USUAL_VARIANT):
        try:
            return diffusers.DiffusionPipeline.download(source, variant=variant, **options)
        except OSError as error:
            if "necessary `safetensors` weights" not in str(error):
                raise
            missing = missing or error
        except ValueError:  # what diffusers says where there is no file of the variant
            if variant is None:
                raise
    got = f"only pickled ones, or other variants, in {source}"
    raise UnsafeFileError(describe("pipeline", f"safetensors weights, or {_USUAL_VARIANT} ones", got)) from missing


def open_pipeline(
    folder: Path, components: Mapping[str, Sequence[str]], dtype: torch.dtype
) -> diffusers.DiffusionPipeline:
    """Check a folder, then load its pipeline on the CPU without network requests.

    Args:
        folder: a folder that ``save_pretrained`` wrote.
        components: accepted diffusers pipeline classes by name, with the components that each must have.
        dtype: dtype of the weights.

    Raises:
        ValueError: not such a pipeline; the message names the missing part, or variants of which none is the only one.
        UnsafeFileError: only pickled weights, or components from other libraries than diffusers and transformers.
        CorruptFileError: a file is damaged.
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise wrong_type("dtype", "a floating point torch.dtype", dtype)
    if not (folder / _INDEX).is_file():
        raise wrong_value("pipeline", f"a diffusers pipeline folder with {_INDEX}", f"none in {folder}")
    index = read_object(folder / _INDEX)
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in components:
        raise wrong_value(f"_class_name in {folder / _INDEX}", " or ".join(components), repr(name))
    variant = _checked_variant(folder, {component: index.get(component) for component in components[name]})
    kind = _pipeline_class(name)
    unused = {key: value for key, value in _UNUSED.items() if key in inspect.signature(kind).parameters}
    options = {"local_files_only": True, "low_cpu_mem_usage": is_accelerate_available()}
    with without_bars(diffusers.utils.logging, transformers.utils.logging):
        return kind.from_pretrained(folder, dtype=dtype, use_safetensors=True, variant=variant, **options, **unused)


def _pipeline_class(name: str) -> type[diffusers.DiffusionPipeline]:
    """Import a pipeline's class, without the advice of transformers on readers of images, which no text needs."""
    with _errors_only(transformers.utils.logging):
        kind: type[diffusers.DiffusionPipeline] = getattr(diffusers, name)
    return kind


@contextmanager
def _errors_only(logging: ModuleType) -> Iterator[None]:
    """Let a library, of whose kind of logging both have one, say nothing below errors."""
    level = logging.get_verbosity()
    try:
        logging.set_verbosity_error()
        yield
    finally:
        logging.set_verbosity(level)


def _checked_variant(folder: Path, components: Mapping[str, object]) -> str | None:
    """Check all components, and return the variant of the weights, as diffusers names it, that has to be loaded.

    Args:
        folder: of the pipeline.
        components: names with their entries in the index.

    Returns:
        None; or a variant, such as "fp16", where a component has weights only of that variant: diffusers then takes the
        weights of that variant of every component that has some.
    """
    found = {name: _check_component(folder, name, entry) for name, entry in components.items()}
    variants = {name: variant for name, variant in found.items() if variant is not None}
    if len(set(variants.values())) > 1:
        raise wrong_value("pipeline", "weights of one variant for all components", f"{variants} in {folder}")
    variant = next(iter(variants.values()), None)
    if variant is not None:
        for name, entry in components.items():
            _check_component(folder, name, entry, variant)
    return variant


def _check_component(folder: Path, component: str, entry: object, variant: str | None = None) -> str | None:
    """Raise unless the component is declared, comes from a known library, and has all its files undamaged.

    Returns:
        The variant of its weights, see ``check_weights``; None without weights.
    """
    if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(name, str) for name in entry)):
        raise wrong_value(f"{folder / _INDEX}", f"an entry for {component}", entry)
    if entry[0] not in _LIBRARIES:
        raise UnsafeFileError(describe(component, f"a class of {' or '.join(_LIBRARIES)}", f"{entry[0]}.{entry[1]}"))
    subfolder = folder / component
    if not subfolder.is_dir():
        raise wrong_value("pipeline", f"the component folder {component}", f"none in {folder}")
    if component == "scheduler" or component.startswith("tokenizer"):
        for path in subfolder.glob("*.json"):
            read_object(path)
        return None
    if not (subfolder / "config.json").is_file():
        raise wrong_value("pipeline", f"{component}/config.json", f"none in {folder}")
    read_object(subfolder / "config.json")
    return check_weights("pipeline", subfolder, _WEIGHTS, variant)
