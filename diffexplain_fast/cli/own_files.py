"""Functions in the user's own files of Python, as "my_file.py:make" on the command line."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

from diffexplain_fast.errors import wrong_value


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
    if not Path(file).is_file():
        raise wrong_value(argument, "a file of Python, as my_file.py:make", file)
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None and spec.loader is not None  # for a name that ends with .py there always is one
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, function, None)
    if not callable(found):
        raise wrong_value(argument, f"a function {function!r} in {file}", found)
    return found
