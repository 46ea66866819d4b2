"""Folders of published models: safetensors only, checked before anything is loaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.errors import HFValidationError, HTTPError
from safetensors import SafetensorError, safe_open

from diffexplain_fast.errors import CorruptFileError, UnsafeFileError, describe, wrong_value
from diffexplain_fast.storage import read_json

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


def check_weights(argument: str, folder: Path, names: tuple[str, ...]) -> None:
    """Raise unless a folder has undamaged safetensors files with one of the names that a library reads.

    Args:
        argument: name of the model in messages.
        folder: the folder of the weights.
        names: file names; each may also be split into shards with an index.

    Raises:
        ValueError: no weights, or a shard is missing.
        UnsafeFileError: only pickled weights, or an index that points out of the folder.
        CorruptFileError: a damaged file.
    """
    for path in _weight_files(argument, folder, names):
        try:
            with safe_open(path, framework="pt") as weights:  # reads the header and compares sizes
                weights.keys()
        except SafetensorError as error:
            raise CorruptFileError(describe(str(path), "a whole safetensors file", str(error))) from error


def _weight_files(argument: str, folder: Path, names: tuple[str, ...]) -> list[Path]:
    for name in names:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = sorted(set(read_object(index).get("weight_map", {}).values()))
            return [_shard(argument, folder, shard) for shard in shards]
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLED)
    if pickled:
        wanted = f"{folder.name} weights as safetensors, which cannot run code (save_pretrained writes them)"
        raise UnsafeFileError(describe(argument, wanted, f"only pickled ones: {', '.join(pickled)} in {folder}"))
    raise wrong_value(argument, f"weights {' or '.join(names)}", f"none in {folder}")


def _shard(argument: str, folder: Path, name: str) -> Path:
    if Path(name).name != name or Path(name).suffix != ".safetensors":
        wanted = "names of safetensors files beside it"
        raise UnsafeFileError(describe(f"weight index in {folder}", wanted, repr(name)))
    if not (folder / name).is_file():
        raise wrong_value(argument, f"the weight file {name}", f"none in {folder}")
    return folder / name
