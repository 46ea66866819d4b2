"""A check that ``--out`` can be written, before any computation, which may take minutes."""

import os
from collections.abc import Iterable
from pathlib import Path

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.result_folder import check_replaceable


def check_folder(out: Path, files: Iterable[str] = (), explanations: Iterable[str] = ()) -> None:
    """Refuse a folder that cannot be written, or that has something else in the place of a result.

    Args:
        out: the folder, new or existing.
        files: names of files in the folder, which are replaced.
        explanations: names of folders in the folder, in which earlier explanations are replaced.

    Raises:
        ValueError: the folder cannot be used; the message names ``--out``.
    """
    _check_writable(out, "a folder, new or existing")
    for name in files:
        if (out / name).is_dir():
            raise wrong_value(
                "--out", f"a folder in which {name} is a file or does not exist", f"the folder {out / name}"
            )
    for name in explanations:
        try:
            check_replaceable(out / name)
        except ValueError as error:
            raise ValueError(f"--out, {error}") from error


def check_apart(places: Iterable[Path], given: str, inputs: Iterable[Path]) -> None:
    """Refuse an output in the place of what the command reads, which would be lost.

    Args:
        places: folders and files that the command replaces.
        given: name of the argument that names the inputs.
        inputs: files and folders that the command reads.

    Raises:
        ValueError: an input is one of the places, or lies in one; the message names ``--out``.
    """
    for place in places:
        for path in inputs:
            if path.resolve().is_relative_to(place.resolve()):
                wanted = f"a folder in which nothing of {given} is replaced"
                raise wrong_value("--out", wanted, f"{path}, which would be replaced by {place}")


def check_file(out: Path) -> None:
    """Refuse a file that cannot be appended to.

    Args:
        out: the file, new or existing.

    Raises:
        ValueError: the file cannot be used; the message names ``--out``.
    """
    wanted = "a file, new or existing"
    if not _is_there(out, wanted):
        _check_writable(out.parent, wanted)
    elif out.is_dir():
        raise wrong_value("--out", wanted, f"the folder {out}")
    elif out.exists() and not os.access(out, os.W_OK):
        raise wrong_value("--out", wanted, f"{out}, which may not be written")


def _check_writable(folder: Path, wanted: str) -> None:
    """Refuse a folder that can be neither written nor created."""
    nearest = next(place for place in (folder, *folder.parents) if _is_there(place, wanted))
    if not nearest.is_dir():
        raise wrong_value("--out", wanted, f"{nearest}, which is not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise wrong_value("--out", wanted, f"{nearest}, which may not be written")


def _is_there(path: Path, wanted: str) -> bool:
    """Return whether anything has that name, also a broken link, so that no folder can be created there."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:  # for example a name that is too long
        raise wrong_value("--out", wanted, f"{path}: {error.strerror}") from error
    return True
