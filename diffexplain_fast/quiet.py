"""Switching off what other libraries draw while a model is loaded, which takes only a moment."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def without_bars(*libraries: ModuleType) -> Iterator[None]:
    """Switch off the progress bars of libraries while the context is open.

    Args:
        libraries: the modules ``utils.logging`` of diffusers and transformers, of whose kind both have one.
    """
    drawing = [each for each in libraries if each.is_progress_bar_enabled()]
    try:
        for each in drawing:
            each.disable_progress_bar()
        yield
    finally:
        for each in drawing:
            each.enable_progress_bar()
