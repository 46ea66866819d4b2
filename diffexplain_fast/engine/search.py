"""cuDNN's search for its fastest algorithms, switched on where shapes repeat."""

from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch

from diffexplain_fast.engine.settings import CUDNN_BENCHMARK, held_settings


class AlgorithmSearch:
    """Lets cuDNN measure which of its algorithms is the fastest, where shapes repeat.

    cuDNN measures once for each shape, and each thread keeps its own results, so the search is worth its time from the
    second call of a kind on. If the caller or a call in another thread asks for determinism, cuDNN does not search,
    because the fastest algorithm may differ in the next process.

    Attributes:
        devices: types of device that run cuDNN.
    """

    devices: tuple[str, ...] = ("cuda",)

    def __init__(self) -> None:
        self._seen: set[Hashable] = set()

    def repeats(self, kind: Hashable) -> bool:
        """Return whether a kind of call was asked about before.

        Args:
            kind: everything that determines the shapes of the call's convolutions.
        """
        seen = kind in self._seen
        self._seen.add(kind)
        return seen

    @classmethod
    def on(cls, device: torch.device) -> AbstractContextManager[None]:
        """Return a context in which cuDNN searches; on a device without cuDNN the context does nothing."""
        return held_settings(_search) if device.type in cls.devices else nullcontext()


def _search() -> Mapping[str, bool]:
    deterministic = torch.are_deterministic_algorithms_enabled() or torch.backends.cudnn.deterministic
    return {} if deterministic else {CUDNN_BENCHMARK: True}
