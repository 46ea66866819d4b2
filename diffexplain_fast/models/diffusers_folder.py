"""Finding, checking and opening diffusers pipeline folders: safetensors only, checked before anything is loaded."""

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.utils import is_accelerate_available
from safetensors import SafetensorError, safe_open

from diffexplain_fast.errors import CorruptFileError, UnsafeFileError, describe, wrong_type, wrong_value

_INDEX = "model_index.json"
_PICKLED = {".bin", ".ckpt", ".pt", ".pth", ".pkl"}
_LIBRARIES = ("diffusers", "transformers")
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "model.safetensors")
_UNUSED = {
    "safety_checker": None,
    "requires_safety_checker": False,
    "feature_extractor": None,
    "image_encoder": None,
    "add_watermarker": False,
}
"""What no explanation uses is neither downloaded nor loaded; each pipeline class knows some of it."""


def find_folder(source: str | Path, *, revision: str | None, local_files_only: bool) -> tuple[Path, str]:
    """Return the folder of a pipeline and what results call it, downloading a hub id once.

    Args:
        source: "tinyworld", a local folder, or a hub id "owner/name".
        revision: branch, tag or commit of a hub id.
        local_files_only: do not ask the hub.

    Raises:
        ValueError: there is no such folder and the source cannot be a hub id.
        UnsafeFileError: a pickled checkpoint file, or a hub repository with pickled weights only.
    """
    if source == "tinyworld":
        from diffexplain_fast.tinyworld import pipeline_folder

        return Path(pipeline_folder()), "tinyworld"
    path = Path(source).expanduser()
    if path.is_dir():
        return path, path.resolve().name
    if path.is_file():
        wanted = "a pipeline folder with safetensors weights"
        if path.suffix in _PICKLED:
            raise UnsafeFileError(describe("pipeline", f"{wanted}, not a pickle that runs code when read", source))
        raise wrong_value("pipeline", wanted, f"the single file {source}")
    text = str(source)
    if isinstance(source, Path) or text.count("/") > 1 or text.startswith((".", "/", "~")) or not text:
        raise wrong_value("pipeline", "an existing folder or a hub id owner/name", repr(text))
    options: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only, **_UNUSED}
    try:
        folder = diffusers.DiffusionPipeline.download(text, use_safetensors=True, **options)
    except OSError as error:
        if "necessary `safetensors` weights" in str(error):
            raise UnsafeFileError(
                describe("pipeline", "safetensors weights", f"only pickled ones in {text}")
            ) from error
        raise
    return Path(folder), text


def open_pipeline(folder: Path, components: Mapping[str, Sequence[str]], dtype: torch.dtype) -> Any:
    """Check a folder, then load its pipeline on the CPU without asking the network.

    Args:
        folder: a folder as ``save_pretrained`` writes it.
        components: accepted diffusers pipeline classes by name, with the components each must have.
        dtype: dtype of the weights.

    Raises:
        ValueError: not such a pipeline; the message names what is missing.
        UnsafeFileError: pickled weights only, or components from elsewhere than diffusers and transformers.
        CorruptFileError: a file is damaged.
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise wrong_type("dtype", "a floating point torch.dtype", dtype)
    if not (folder / _INDEX).is_file():
        raise wrong_value("pipeline", f"a diffusers pipeline folder with {_INDEX}", f"none in {folder}")
    index = _read_json(folder / _INDEX)
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in components:
        raise wrong_value(f"_class_name in {folder / _INDEX}", " or ".join(components), repr(name))
    for component in components[name]:
        _check_component(folder, component, index.get(component))
    kind = getattr(diffusers, name)
    unused = {key: value for key, value in _UNUSED.items() if key in inspect.signature(kind).parameters}
    options = {"local_files_only": True, "low_cpu_mem_usage": is_accelerate_available()}
    with _quiet():
        return kind.from_pretrained(folder, dtype=dtype, use_safetensors=True, **options, **unused)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep both libraries from drawing progress bars for what takes a moment."""
    drawing = [each for each in (diffusers.utils.logging, transformers.utils.logging) if each.is_progress_bar_enabled()]
    try:
        for each in drawing:
            each.disable_progress_bar()
        yield
    finally:
        for each in drawing:
            each.enable_progress_bar()


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptFileError(describe(str(path), "JSON", str(error))) from error
    if not isinstance(content, dict):
        raise CorruptFileError(describe(str(path), "a JSON object", type(content).__name__))
    return content


def _check_component(folder: Path, component: str, entry: object) -> None:
    """Raise unless the component is declared, comes from a known library, and its files are there and whole."""
    if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)):
        raise wrong_value(f"{folder / _INDEX}", f"an entry for {component}", entry)
    if entry[0] not in _LIBRARIES:
        raise UnsafeFileError(describe(component, f"a class of {' or '.join(_LIBRARIES)}", f"{entry[0]}.{entry[1]}"))
    part = folder / component
    if not part.is_dir():
        raise wrong_value("pipeline", f"the component folder {component}", f"none in {folder}")
    if component == "scheduler" or component.startswith("tokenizer"):
        for path in part.glob("*.json"):
            _read_json(path)
        return
    if not (part / "config.json").is_file():
        raise wrong_value("pipeline", f"{component}/config.json", f"none in {folder}")
    _read_json(part / "config.json")
    for path in _weight_files(part):
        try:
            with safe_open(path, framework="pt") as weights:  # reads the header and compares sizes
                weights.keys()
        except SafetensorError as error:
            raise CorruptFileError(describe(str(path), "a whole safetensors file", str(error))) from error


def _weight_files(part: Path) -> list[Path]:
    """Return the safetensors files that diffusers and transformers would read, one or the shards of an index."""
    for name in _WEIGHTS:
        if (part / name).is_file():
            return [part / name]
        index = part / f"{name}.index.json"
        if index.is_file():
            return [_shard(part, name) for name in sorted(set(_read_json(index).get("weight_map", {}).values()))]
    pickled = sorted(path.name for path in part.iterdir() if path.suffix in _PICKLED)
    if pickled:
        wanted = f"{part.name} weights as safetensors, which cannot run code (save_pretrained writes them)"
        raise UnsafeFileError(describe("pipeline", wanted, f"only pickled ones: {', '.join(pickled)} in {part}"))
    raise wrong_value("pipeline", f"weights {' or '.join(_WEIGHTS)}", f"none in {part}")


def _shard(part: Path, name: str) -> Path:
    if Path(name).name != name or Path(name).suffix != ".safetensors":
        raise UnsafeFileError(describe(f"weight index in {part}", "names of safetensors files beside it", repr(name)))
    if not (part / name).is_file():
        raise wrong_value("pipeline", f"the weight file {name}", f"none in {part}")
    return part / name
