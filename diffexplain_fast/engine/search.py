"""cuDNN's search for its fastest algorithms, on where shapes repeat."""

from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch

from diffexplain_fast.engine.settings import CUDNN_BENCHMARK, held_settings


class AlgorithmSearch:
    """Lets cuDNN measure which of its algorithms is the fastest, where shapes repeat.

    cuDNN measures once for each shape, and each thread keeps what it found, so the search is worth its time from the
    second call of a kind on. Where the caller or a call in another thread asks for determinism, nothing is searched,
    because the fastest algorithm may be another one in the next process.

    Attributes:
        devices: types of device that run cuDNN.
    """

    devices: tuple[str, ...] = ("cuda",)

    def __init__(self) -> None:
        self._seen: set[Hashable] = set()

    def repeats(self, kind: Hashable) -> bool:
        """Return whether a kind of call was asked about before.

        Args:
            kind: all that the shapes of the call's convolutions follow from.
        """
        seen = kind in self._seen
        self._seen.add(kind)
        return seen

    @classmethod
    def on(cls, device: torch.device) -> AbstractContextManager[None]:
        """Return a context in which cuDNN searches; on a device without cuDNN, one that does nothing.

        Args:
            device: of the call's tensors.
        """
        return held_settings(_search) if device.type in cls.devices else nullcontext()


def _search() -> Mapping[str, bool]:
    fixed = torch.are_deterministic_algorithms_enabled() or torch.backends.cudnn.deterministic
    return {} if fixed else {CUDNN_BENCHMARK: True}
