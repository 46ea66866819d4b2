"""Files that are complete or absent: atomic writes, tensors without pickle, sha256 manifests, confined paths."""

import errno
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import safetensors.torch
import torch
from safetensors import SafetensorError

from diffexplain_fast.errors import CorruptFileError, StorageError, UnsafeFileError, describe
from diffexplain_fast.file_systems import parents_of, write_content
from diffexplain_fast.records import Json

MANIFEST = "MANIFEST.json"
_NUMBER = "$number"


class ManifestEntry(TypedDict):
    """The entry of one file in a manifest."""

    bytes: int
    sha256: str


def write_bytes_atomic(path: str | Path, data: bytes) -> None:
    """Replace the content of a file, or leave the file unchanged.

    A reader sees the old content or the new one; the last of several writers wins. A link is followed, so its target is
    replaced. The next writer removes the files that a killed writer left beside the file. There is one exception: a
    file that cannot be replaced, such as a mount point or a file in a folder without write permission, is written in
    place.

    Args:
        path: the file; its folder is created if it does not exist.
        data: the whole content.

    Raises:
        StorageError: no space, no permission, or a path that cannot be a file.
    """
    path = Path(path)
    try:
        with parents_of(path):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if path.exists() and not path.is_file():
                raise OSError(errno.EINVAL, "a device or pipe, not a regular file")
            place = Path(os.path.realpath(path))
            if place.is_symlink():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            write_content(place, data)
    except OSError as error:
        raise storage_error(path, f"space and permission for {len(data)} bytes", error) from error


def storage_error(path: Path, wanted: str, error: OSError) -> StorageError:
    """Return (not raise) the package's error for a file that could not be written, with the system's errno."""
    failure = StorageError(describe(str(path), wanted, error.strerror or error))
    failure.errno = error.errno
    return failure


def write_json_atomic(path: str | Path, value: object) -> None:
    """Write a value as readable JSON, atomically; numbers that JSON lacks are written as ``{"$number": "NaN"}``.

    Args:
        path: the file.
        value: dicts, lists, text, numbers, booleans and None; NaN and infinities come back from ``read_json``.

    Raises:
        TypeError: a value that JSON does not have.
        StorageError: see ``write_bytes_atomic``.
    """
    text = json.dumps(_tagged(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        data = text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as in a path that is not UTF-8: JSON's escapes keep it
        data = (json.dumps(_tagged(value), indent=1, allow_nan=False) + "\n").encode()
    write_bytes_atomic(path, data)


def read_json(path: str | Path) -> Json:
    """Read a JSON file.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: the file does not exist.
        CorruptFileError: the content is not JSON.
    """
    return parse_json(Path(path).read_bytes(), path)


def parse_json(data: bytes, path: str | Path) -> Json:
    """Return the value of a JSON file's content.

    Args:
        data: the content.
        path: path of the file, for the message.

    Raises:
        CorruptFileError: the content is not JSON.
    """
    try:
        return json.loads(data, object_hook=_untagged)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(describe(str(path), "JSON", error)) from error


def _tagged(value: object) -> object:
    """Replace the floats that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return {_NUMBER: "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, dict):
        return {key: _tagged(item) for key, item in value.items()}
    return [_tagged(item) for item in value] if isinstance(value, list | tuple) else value


def _untagged(entry: dict[str, object]) -> object:
    name = entry.get(_NUMBER) if len(entry) == 1 else None
    return float(name) if name in ("NaN", "Infinity", "-Infinity") else entry


def save_tensors_atomic(path: str | Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write named tensors as safetensors, atomically.

    Args:
        path: the file.
        tensors: contiguous tensors that share no memory, on any device.

    Raises:
        StorageError: see ``write_bytes_atomic``.
    """
    write_bytes_atomic(path, pack_tensors(tensors))


def pack_tensors(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return the content of a safetensors file; see ``save_tensors_atomic``."""
    return safetensors.torch.save(dict(tensors))


def load_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """Read named tensors from safetensors to the CPU; only ``check_manifest`` detects a flipped bit.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: the file does not exist.
        CorruptFileError: the file is truncated, or not safetensors.
    """
    try:
        return safetensors.torch.load_file(path, device="cpu")
    except SafetensorError as error:
        raise CorruptFileError(describe(str(path), "a safetensors file", error)) from error


def parse_tensors(data: bytes, path: str | Path) -> dict[str, torch.Tensor]:
    """Return the named tensors of a safetensors file's content, on the CPU.

    Args:
        data: the content.
        path: path of the file, for the message.

    Raises:
        CorruptFileError: the content is not safetensors.
    """
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:
        raise CorruptFileError(describe(str(path), "a safetensors file", error)) from error


def sha256_file(path: str | Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def confined(folder: str | Path, relative: str) -> Path:
    """Return ``folder / relative`` with links resolved, if that is inside the folder.

    Args:
        folder: the folder.
        relative: path that was read from a file, so it can be any text.

    Raises:
        UnsafeFileError: the path is absolute, leaves the folder, or is not a path.
    """
    root = Path(os.path.realpath(folder))
    wanted = f"a path inside {root}"
    if not isinstance(relative, str) or "\0" in relative or not relative:
        raise UnsafeFileError(describe("path", wanted, repr(relative)))
    path = Path(os.path.realpath(root / relative))  # not resolve(), which fails on links in a circle
    if path == root or not path.is_relative_to(root):
        raise UnsafeFileError(describe("path", wanted, repr(relative)))
    return path


def write_manifest(folder: str | Path) -> None:
    """Record size and sha256 of every file below a folder in its ``MANIFEST.json``.

    Args:
        folder: the folder; all other files must be written before this call.

    Raises:
        StorageError: see ``write_bytes_atomic``.
    """
    root = Path(folder)
    paths = sorted(path for path in root.rglob("*") if path.is_file() and path != root / MANIFEST)
    files = {
        path.relative_to(root).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in paths
    }
    write_json_atomic(root / MANIFEST, {"files": files})


def read_manifest(folder: str | Path) -> dict[str, ManifestEntry]:
    """Return the entries of a manifest: ``{"bytes", "sha256"}`` by the path inside the folder.

    Args:
        folder: the folder that holds ``MANIFEST.json``.

    Raises:
        CorruptFileError: there is no manifest, or it is damaged.
        UnsafeFileError: the manifest names a path outside the folder.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise CorruptFileError(
            describe(str(path), "a manifest (a folder that this package has written completely)", "no file")
        )
    return parse_manifest(path.read_bytes(), path)


def parse_manifest(data: bytes, path: Path) -> dict[str, ManifestEntry]:
    """Return the entries in the content of a manifest; see ``read_manifest``.

    Args:
        data: the content.
        path: the manifest's file, in the folder that its paths must not leave.

    Raises:
        CorruptFileError: the manifest is damaged.
        UnsafeFileError: the manifest names a path outside the folder.
    """
    value = parse_json(data, path)
    files = value.get("files") if isinstance(value, dict) else None
    sound = isinstance(files, dict) and all(
        isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)
        for entry in files.values()
    )
    if not isinstance(files, dict) or not sound:
        raise CorruptFileError(describe(str(path), '{"files": {path: {"bytes", "sha256"}}}', "another structure"))
    for name in files:
        confined(path.parent, name)
    return files


def check_manifest(folder: str | Path) -> dict[str, ManifestEntry]:
    """Compare every file that a manifest names with its recorded size and sha256.

    Args:
        folder: the folder that holds ``MANIFEST.json``.

    Returns:
        The manifest's entries, as ``read_manifest``.

    Raises:
        CorruptFileError: a file is missing or differs; the message names the file.
        UnsafeFileError: the manifest names a path outside the folder.
    """
    files = read_manifest(folder)
    for name, entry in files.items():
        path = confined(folder, name)
        if not path.is_file():
            raise CorruptFileError(describe(str(path), "the file that its manifest names", "no file"))
        if path.stat().st_size != entry["bytes"]:
            raise CorruptFileError(describe(str(path), f"{entry['bytes']} bytes", path.stat().st_size))
        if (digest := sha256_file(path)) != entry["sha256"]:
            raise CorruptFileError(describe(str(path), f"sha256 {entry['sha256']}", digest))
    return files
