"""Folders of published models: safetensors only, checked before anything is loaded."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.errors import HFValidationError, HTTPError
from safetensors import SafetensorError, safe_open

from diffexplain_fast.errors import CorruptFileError, UnsafeFileError, describe, wrong_value
from diffexplain_fast.storage import read_json

_SAFE = ".safetensors"
_PICKLED = {".bin", ".ckpt", ".pt", ".pth", ".pkl"}


def local_folder(argument: str, source: str | Path) -> Path | None:
    """Return the folder that a source names, or None if the source can only be a hub id.

    Args:
        argument: name of the source in messages.
        source: a folder, or a hub id "owner/name".

    Raises:
        ValueError: there is no such folder and the source cannot be a hub id.
        UnsafeFileError: the source is a pickled checkpoint file.
    """
    path, text = Path(source).expanduser(), str(source)
    if path.is_dir() and text:
        return path
    if path.is_file():
        wanted = f"a {argument} folder with safetensors weights"
        if path.suffix in _PICKLED:
            raise UnsafeFileError(describe(argument, f"{wanted}, not a pickle that runs code when read", source))
        raise wrong_value(argument, wanted, f"the single file {source}")
    if isinstance(source, Path) or text.count("/") > 1 or text.startswith((".", "/", "~")) or not text:
        raise wrong_value(argument, "an existing folder or a hub id owner/name", repr(text))
    return None


@contextmanager
def asking_hub(argument: str, source: str) -> Iterator[None]:
    """Raise the error of a download again with the name of the argument, and say that no such folder exists.

    Args:
        argument: name of the source in messages.
        source: a hub id, or a folder whose name is misspelt.

    Raises:
        FileNotFoundError: the model is not in the cache, and the hub could not be reached or refused the user.
        OSError: an error of the machine, such as a full disk, unchanged.
    """
    try:
        yield
    except (OSError, HTTPError, HFValidationError) as error:
        of_machine = isinstance(error, OSError) and error.errno is not None
        if of_machine and not isinstance(error, FileNotFoundError | ConnectionError | TimeoutError):
            raise
        cause = error.__cause__ or error  # the error of the network, which libraries wrap in their own advice
        cause_text = f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"
        wanted = "an existing folder, or a hub id that is in the cache or can be downloaded"
        got = f"{source!r}: there is no such folder, and the hub could not be reached or refused ({cause_text})"
        raise FileNotFoundError(describe(argument, wanted, got)) from error


def read_object(path: Path) -> dict:
    """Return the JSON object in a file; other content raises a CorruptFileError."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise CorruptFileError(describe(str(path), "a JSON object", type(content).__name__))
    return content


def check_weights(argument: str, folder: Path, names: tuple[str, ...], preferred: str | None = None) -> str | None:
    """Raise unless a folder has undamaged safetensors files with one of the names that a library reads.

    Args:
        argument: name of the model in messages.
        folder: the folder of the weights.
        names: file names; each may also be split into shards with an index, and be of a variant, as
            "model.fp16.safetensors".
        preferred: variant whose files are checked where there are some.

    Returns:
        The variant whose files were checked, for the library's ``variant=``: None, if there are files without one, else
        the only one there.

    Raises:
        ValueError: no weights, only weights of several variants, or a shard is missing.
        UnsafeFileError: only pickled weights, or an index that points out of the folder.
        CorruptFileError: a damaged file.
    """
    variant, paths = _weight_files(argument, folder, names, preferred)
    for path in paths:
        try:
            with safe_open(path, framework="pt") as weights:  # reads the header and compares sizes
                weights.keys()
        except SafetensorError as error:
            raise CorruptFileError(describe(str(path), "a whole safetensors file", str(error))) from error
    return variant


def _weight_files(
    argument: str, folder: Path, names: tuple[str, ...], preferred: str | None
) -> tuple[str | None, list[Path]]:
    """Return the variant whose files are read, and the files."""
    others = _variants(folder, names)
    only = others[0] if len(others) == 1 else None
    for variant in (preferred, None, only):
        middle = "" if variant is None else f".{variant}"
        for name in names:
            whole = folder / f"{name.removesuffix(_SAFE)}{middle}{_SAFE}"
            if whole.is_file():
                return variant, [whole]
            index = folder / f"{name}.index{middle}.json"
            if index.is_file():
                shards = sorted(set(read_object(index).get("weight_map", {}).values()))
                return variant, [_shard(argument, folder, shard) for shard in shards]
    if others:
        got = f"those of {len(others)} variants, {', '.join(others)}, in {folder}"
        raise wrong_value(argument, f"weights {' or '.join(names)}, or those of one variant", got)
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLED)
    if pickled:
        wanted = f"{folder.name} weights as safetensors, which cannot run code (save_pretrained writes them)"
        raise UnsafeFileError(describe(argument, wanted, f"only pickled ones: {', '.join(pickled)} in {folder}"))
    raise wrong_value(argument, f"weights {' or '.join(names)}", f"none in {folder}")


def _variants(folder: Path, names: tuple[str, ...]) -> list[str]:
    """Return the variants of weights that a folder has, such as "fp16"."""
    files = [path.name for path in folder.iterdir()]
    found = set()
    for name in names:
        stem = re.escape(name.removesuffix(_SAFE))
        for form in (rf"{stem}\.([^.]+)\.safetensors", rf"{stem}\.safetensors\.index\.([^.]+)\.json"):
            found |= {match[1] for match in map(re.compile(form).fullmatch, files) if match}
    return sorted(one for one in found if not re.search(r"-\d+-of-\d+$", one))


def _shard(argument: str, folder: Path, name: str) -> Path:
    if Path(name).name != name or Path(name).suffix != ".safetensors":
        wanted = "names of safetensors files beside it"
        raise UnsafeFileError(describe(f"weight index in {folder}", wanted, repr(name)))
    if not (folder / name).is_file():
        raise wrong_value(argument, f"the weight file {name}", f"none in {folder}")
    return folder / name
