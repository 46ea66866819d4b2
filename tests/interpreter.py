"""What Triton's interpreter cannot do with the versions that are installed."""

import importlib.metadata
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

REFUSAL = "only 0-dimensional arrays can be converted to Python scalars"
"""What numpy says to the interpreter of Triton before 3.7, which makes the end of a loop an int of an array [1]."""


def why_no_loops(triton: str | None = None, numpy: str | None = None) -> str:
    """Return why the interpreter cannot run a loop to a number that is known at run time only, "" if it can.

    Args:
        triton: its version, by default the installed one's.
        numpy: its version, by default the installed one's.
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
    """Skip the test whose kernel meets numpy's refusal; every other failure, and every failure elsewhere, stays one.

    Args:
        why: from ``why_no_loops``.
    """
    try:
        yield
    except Exception as error:
        if why and REFUSAL in str(error):
            pytest.skip(why)
        raise
