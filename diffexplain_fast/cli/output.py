"""Whether ``--out`` can be written: asked before anything is computed, which may take minutes."""

import os
from collections.abc import Iterable
from pathlib import Path

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.result_folder import check_replaceable


def check_folder(out: Path, files: Iterable[str] = (), explanations: Iterable[str] = ()) -> None:
    """Refuse a folder that cannot be written, or that holds something else where a result will be.

    Args:
        out: the folder, new or existing.
        files: names of files in it, which are replaced.
        explanations: names of folders in it, in which earlier explanations are replaced.

    Raises:
        ValueError: not such a folder; the message names ``--out``.
    """
    _check_writable(out, "a folder, new or existing")
    for name in files:
        if (out / name).is_dir():
            raise wrong_value("--out", f"a folder in which {name} is a file or not there", f"the folder {out / name}")
    for name in explanations:
        try:
            check_replaceable(out / name)
        except ValueError as error:
            raise ValueError(f"--out, {error}") from error


def check_file(out: Path) -> None:
    """Refuse a file that cannot be appended to.

    Args:
        out: the file, new or existing.

    Raises:
        ValueError: not such a file; the message names ``--out``.
    """
    wanted = "a file, new or existing"
    if not _is_there(out, wanted):
        _check_writable(out.parent, wanted)
    elif out.is_dir():
        raise wrong_value("--out", wanted, f"the folder {out}")
    elif out.exists() and not os.access(out, os.W_OK):
        raise wrong_value("--out", wanted, f"{out}, which may not be written")


def _check_writable(folder: Path, wanted: str) -> None:
    """Refuse a folder that neither can be written nor made."""
    nearest = next(place for place in (folder, *folder.parents) if _is_there(place, wanted))
    if not nearest.is_dir():
        raise wrong_value("--out", wanted, f"{nearest}, which is no folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise wrong_value("--out", wanted, f"{nearest}, which may not be written")


def _is_there(path: Path, wanted: str) -> bool:
    """Return whether there is anything of that name, a link to nothing too, in whose place no folder can be made."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:  # such as a name that is too long
        raise wrong_value("--out", wanted, f"{path}: {error.strerror}") from error
    return True
