"""Files that are whole or absent: atomic writes, tensors without pickle, sha256 manifests, paths that stay inside."""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from diffexplain_fast.errors import CorruptFileError, StorageError, UnsafeFileError, describe

MANIFEST = "MANIFEST.json"


def write_bytes_atomic(path: str | Path, data: bytes) -> None:
    """Replace a file by new content, or leave it exactly as it was.

    Args:
        path: the file; its folder is made if it does not exist.
        data: the whole content.

    Raises:
        StorageError: no space, no permission, or a path that cannot be a file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, f"space and permission for {len(data)} bytes", error) from error


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder survive a power cut; a no-op where folders cannot be opened (Windows)."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def storage_error(path: Path, wanted: str, error: OSError) -> StorageError:
    """Return (not raise) the package's error for a file that could not be written, with the system's number."""
    failure = StorageError(describe(str(path), wanted, error.strerror or error))
    failure.errno = error.errno
    return failure


def write_json_atomic(path: str | Path, value: Any) -> None:
    """Write a value as readable JSON, atomically.

    Args:
        path: the file.
        value: dicts, lists, text, numbers, booleans and None.

    Raises:
        TypeError: a value that JSON does not have.
        StorageError: see ``write_bytes_atomic``.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False)
    try:
        data = text.encode()
    except UnicodeEncodeError:  # a name of a file that is no text, as Python reads it; JSON can spell it
        data = json.dumps(value, indent=1).encode()
    write_bytes_atomic(path, data + b"\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: there is none.
        CorruptFileError: the content is no JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(describe(str(path), "JSON", error)) from error


def save_tensors_atomic(path: str | Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write named tensors as safetensors, atomically.

    Args:
        path: the file.
        tensors: contiguous, sharing no memory, on any device.

    Raises:
        StorageError: see ``write_bytes_atomic``.
    """
    write_bytes_atomic(path, safetensors.torch.save(dict(tensors)))


def load_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """Read named tensors from safetensors, onto the CPU; a flipped bit needs ``check_manifest`` to be seen.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: there is none.
        CorruptFileError: the file is truncated, or no safetensors at all.
    """
    try:
        return safetensors.torch.load_file(path, device="cpu")
    except SafetensorError as error:
        raise CorruptFileError(describe(str(path), "a safetensors file", error)) from error


def sha256_file(path: str | Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: there is none.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def confined(folder: str | Path, relative: str) -> Path:
    """Return ``folder / relative`` if that lies inside the folder, links followed.

    Args:
        folder: the folder.
        relative: a path that was read from a file, and may be anything.

    Raises:
        UnsafeFileError: the path is absolute, leaves the folder, or is no path.
    """
    root = Path(folder).resolve()
    wanted = f"a path inside {root}"
    if not isinstance(relative, str) or "\0" in relative or not relative:
        raise UnsafeFileError(describe("path", wanted, repr(relative)))
    path = (root / relative).resolve()
    if path == root or not path.is_relative_to(root):
        raise UnsafeFileError(describe("path", wanted, repr(relative)))
    return path


def write_manifest(folder: str | Path) -> None:
    """Record size and sha256 of every file below a folder in its ``MANIFEST.json``.

    Args:
        folder: the folder; call this when all else is written.

    Raises:
        StorageError: see ``write_bytes_atomic``.
    """
    root = Path(folder)
    paths = sorted(path for path in root.rglob("*") if path.is_file() and path != root / MANIFEST)
    files = {
        path.relative_to(root).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in paths
    }
    write_json_atomic(root / MANIFEST, {"files": files})


def read_manifest(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Return what a manifest records: path inside the folder to ``{"bytes", "sha256"}``.

    Args:
        folder: the folder that holds ``MANIFEST.json``.

    Raises:
        CorruptFileError: there is no manifest, or it is damaged.
        UnsafeFileError: it names a path outside the folder.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise CorruptFileError(describe(str(path), "a manifest (a folder this package has written whole)", "no file"))
    value = read_json(path)
    files = value.get("files") if isinstance(value, dict) else None
    sound = isinstance(files, dict) and all(
        isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)
        for entry in files.values()
    )
    if not isinstance(files, dict) or not sound:
        raise CorruptFileError(describe(str(path), '{"files": {path: {"bytes", "sha256"}}}', "another structure"))
    for name in files:
        confined(folder, name)
    return files


def check_manifest(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Compare every file that a manifest names with its recorded size and sha256.

    Args:
        folder: the folder that holds ``MANIFEST.json``.

    Returns:
        The manifest's entries, as ``read_manifest``.

    Raises:
        CorruptFileError: a file is missing or differs; names it.
        UnsafeFileError: the manifest names a path outside the folder.
    """
    files = read_manifest(folder)
    for name, entry in files.items():
        path = confined(folder, name)
        if not path.is_file():
            raise CorruptFileError(describe(str(path), "the file its manifest names", "no file"))
        if path.stat().st_size != entry["bytes"]:
            raise CorruptFileError(describe(str(path), f"{entry['bytes']} bytes", path.stat().st_size))
        if (found := sha256_file(path)) != entry["sha256"]:
            raise CorruptFileError(describe(str(path), f"sha256 {entry['sha256']}", found))
    return files
