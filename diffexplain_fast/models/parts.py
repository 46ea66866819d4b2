"""The parts of a published classifier that an adapter returns, and the optional libraries that adapters need."""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from torch import Tensor, nn


class Parts(NamedTuple):
    """A published classifier: module, preprocessing, names of the classes, truth, and meaning of its numbers.

    The meaning is None if the configuration of the module states it.
    """

    model: nn.Module
    preprocess: Callable[[Tensor], Tensor] | None
    labels: tuple[str, ...] | None
    name: str
    truth: dict | None = None
    output: str | None = None


def extra(library: str) -> ModuleType:
    """Import an optional library, or say how to install it."""
    try:
        return import_module(library)
    except ImportError as error:
        remedy = f"pip install diffexplain-fast[{library}]"
        raise ImportError(f"classifier: wanted the package {library} ({remedy}), got {error}") from error
