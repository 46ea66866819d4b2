"""The user's own files on the command line: what can be read, and functions in Python as "my_file.py:make"."""

import importlib.util
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from diffexplain_fast.errors import first_line, wrong_value

_FOLDERS = ("stdlib", "platstdlib", "purelib", "platlib")
_LIBRARIES = ("<frozen", *(path for key, path in sysconfig.get_paths().items() if key in _FOLDERS))
"""Beginnings of the names of files that are not the user's own."""


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
    """Return a function in a file, which is run as if the user had run it: it may import its neighbours.

    Args:
        argument: what the function is for, as messages call it.
        name: file and function, as "my_file.py:make".

    Raises:
        ValueError: no such file or function, or a file that does not run.
    """
    file, _, function = name.rpartition(":")
    if not file.endswith(".py"):
        raise wrong_value(argument, "a file and a function in it, as my_file.py:make", name)
    check_readable(argument, Path(file), "a file of Python, as my_file.py:make")
    found = getattr(_module_of(argument, Path(file).resolve()), function, None)
    if not callable(found):
        raise wrong_value(argument, f"a function {function!r} in {file}", found)
    return found


def made_by(argument: str, name: str) -> object:
    """Return what a function in a file makes, which takes no arguments.

    Args:
        argument: what the function is for, as messages call it.
        name: file and function, as "my_file.py:make".

    Raises:
        ValueError: no such file or function, a function that needs arguments, or one that fails.
    """
    function = function_of(argument, name)
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise wrong_value(argument, "a function that needs no arguments", f"{name}: {error}") from error
    except ValueError:  # of a function that is not written in Python, which does not say
        pass
    with _own_code(argument, f"a function that makes it, as {name}"):
        return function()


def _module_of(argument: str, file: Path) -> ModuleType:
    """Run a file as a module, which the file and its neighbours can import."""
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    name = file.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) != str(file):
        name = f"{name} in {file.parent}"  # another module has the name, which others may import later
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # for a name that ends with .py there always is one
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look themselves up there
    try:
        with _own_code(argument, "a file of Python that runs"):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _own_code(argument: str, wanted: str) -> Iterator[None]:
    """Name the user's own code as what failed, with the last of its lines that ran."""
    try:
        yield
    except Exception as error:
        steps = traceback.extract_tb(error.__traceback__)[1:]
        last = next((step for step in reversed(steps) if not step.filename.startswith(_LIBRARIES)), None)
        place = "" if last is None else f" ({last.filename}, line {last.lineno})"
        raise wrong_value(argument, wanted, f"{first_line(error)}{place}") from error
