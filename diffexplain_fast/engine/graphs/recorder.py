"""What records a function of static tensors, so that it can be replayed with other contents."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

_R = TypeVar("_R")


class Recorder(Protocol):
    """Records functions of static tensors. They share memory, so they are replayed in the order they were recorded.

    Attributes:
        devices: types of device whose computation it records.
    """

    devices: tuple[str, ...]

    def __init__(self, device: torch.device) -> None: ...

    def warm(self, function: Callable[[], _R]) -> _R:
        """Run a function as it is, and return its result, so that libraries have prepared what they need."""

    def record(self, function: Callable[[], _R]) -> tuple[Callable[[], None], _R]:
        """Run a function while recording; return what replays it, and its result, whose tensors a replay fills."""


class CudaRecorder:
    """Records into CUDA graphs with one pool of memory.

    Args:
        device: a CUDA device.
    """

    devices: tuple[str, ...] = ("cuda",)

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            # Autograd runs a node on the stream of its forward, so all is recorded on one.
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self._pool = torch.cuda.graph_pool_handle()

    def warm(self, function: Callable[[], _R]) -> _R:
        """Run a function on the stream of the recording; see ``Recorder``."""
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                result = function()
            torch.cuda.current_stream().wait_stream(self._stream)
        return result

    def record(self, function: Callable[[], _R]) -> tuple[Callable[[], None], _R]:
        """Record a function; see ``Recorder``."""
        graph = torch.cuda.CUDAGraph()
        # Other threads of the program may allocate meanwhile.
        with (
            torch.cuda.device(self._device),
            torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"),
        ):
            result = function()
        return graph.replay, result
