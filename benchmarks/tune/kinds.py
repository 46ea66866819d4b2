"""Launches of the Triton kernels that are taken instead of run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diffexplain_fast.kernels import configs

Take = Callable[[str, Any, Any, Any, dict[str, Any]], None]
"""The function that gets a launch: entry of ``CONFIGS``, kernel, grid, key, and arguments without block sizes."""


@contextmanager
def taken(take: Take) -> Iterator[None]:
    """Give every launch to a function while the context is open, and launch nothing."""
    run, configs._run = configs._run, take
    try:
        yield
    finally:
        configs._run = run
