"""Files and folders that a caller names: what cannot be one, or cannot be read, is named by its argument."""

import os
from pathlib import Path

from diffexplain_fast.errors import describe, wrong_type, wrong_value


def given_path(argument: str, path: object) -> Path:
    """Return the path of a file or folder.

    Args:
        argument: name of the argument in the message.
        path: text, or a path.

    Raises:
        TypeError: something else.
        ValueError: an empty text, which would silently be the current folder, or a path with a null character, which
            no file has.
    """
    named = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(named, str):
        raise wrong_type(argument, "a path, as text or as a Path", path)
    if "\0" in named:
        raise wrong_value(argument, "a path without a null character", repr(named))
    if not named:
        raise wrong_value(argument, 'a path ("." for the current folder)', "an empty text")
    return Path(named)


def given_bytes(argument: str, wanted: str, path: str | Path) -> bytes:
    """Return the content of a file.

    Args:
        argument: what the file is for, as messages call it.
        wanted: what it has to be.
        path: of the file.

    Raises:
        TypeError: neither text nor a path.
        FileNotFoundError: there is no file.
        ValueError: a folder, or a file that must not be read.
    """
    try:
        return given_path(argument, path).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(describe(argument, wanted, f"{str(path)!r}, which does not exist")) from error
    except OSError as error:
        raise wrong_value(argument, wanted, f"{str(path)!r}: {error.strerror}") from error
