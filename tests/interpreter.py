"""Loops that Triton's interpreter cannot run with the installed versions, and processes without the interpreter."""

import importlib.metadata
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
REFUSAL = "only 0-dimensional arrays can be converted to Python scalars"
"""The error of numpy in the interpreter of Triton before 3.7, which converts an array [1] to the int that ends a
loop."""


def why_no_loops(triton: str | None = None, numpy: str | None = None) -> str:
    """Return why the interpreter cannot run a loop whose end is known only at run time, or "" if it can.

    Args:
        triton: version of Triton, by default the installed one.
        numpy: version of numpy, by default the installed one.
    """
    if os.environ.get("TRITON_INTERPRET") != "1":
        return ""
    triton = triton or importlib.metadata.version("triton")
    numpy = numpy or importlib.metadata.version("numpy")
    if _numbers(triton) >= (3, 7) or _numbers(numpy) < (2, 4):
        return ""
    together = f"the interpreter of Triton {triton} runs no loop to a number of run time with numpy {numpy}"
    return f"{together}; numpy < 2.4 or Triton >= 3.7 does"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


@contextmanager
def skipped_without_loops(why: str) -> Iterator[None]:
    """Skip a test whose kernel meets numpy's refusal; all other failures remain failures.

    Args:
        why: result of ``why_no_loops``.
    """
    try:
        yield
    except Exception as error:
        if why and REFUSAL in str(error):
            pytest.skip(why)
        raise


def without_interpreter() -> dict[str, str]:
    """Return the environment of a process that compiles this tree's kernels: here they may be the interpreter's."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    paths = [str(_ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    return environment | {"PYTHONPATH": os.pathsep.join(paths)}
