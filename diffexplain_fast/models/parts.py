"""The parts of a published classifier that an adapter returns."""

from collections.abc import Callable
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
