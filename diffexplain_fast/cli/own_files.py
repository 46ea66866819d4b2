"""The user's own files on the command line: what can be read, and functions in Python as "my_file.py:make"."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

from diffexplain_fast.errors import wrong_value


def check_readable(argument: str, path: Path | None, wanted: str) -> None:
    """Refuse a file that cannot be read, before anything is loaded or drawn for it.

    Args:
        argument: what the file is for, as messages call it.
        path: of the file; None for an option that is not given.
        wanted: what the file has to be, such as "a text file".

    Raises:
        ValueError: no file, a folder, or a file that must not be read.
    """
    if path is None:
        return
    try:
        if not path.is_fifo():  # a pipe can be opened only once
            path.open("rb").close()
    except OSError as error:
        raise wrong_value(argument, wanted, f"{path}: {error.strerror}") from error


def function_of(argument: str, name: str) -> Callable[..., object]:
    """Return a function in a file, which is run as if the user had run it.

    Args:
        argument: what the function is for, as messages call it.
        name: file and function, as "my_file.py:make".

    Raises:
        ValueError: no such file or function.
    """
    file, _, function = name.rpartition(":")
    if not file.endswith(".py"):
        raise wrong_value(argument, "a file and a function in it, as my_file.py:make", name)
    check_readable(argument, Path(file), "a file of Python, as my_file.py:make")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None and spec.loader is not None  # for a name that ends with .py there always is one
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, function, None)
    if not callable(found):
        raise wrong_value(argument, f"a function {function!r} in {file}", found)
    return found
