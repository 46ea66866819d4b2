"""Recorders of functions of static tensors, which are replayed with other contents."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

_R = TypeVar("_R")


class Recorder(Protocol):
    """Records functions of static tensors, which share memory and are replayed in the order of recording.

    Attributes:
        devices: types of device that can be recorded.
    """

    devices: tuple[str, ...]

    def __init__(self, device: torch.device) -> None: ...

    def warm(self, function: Callable[[], _R]) -> _R:
        """Run a function without recording, so that libraries prepare their resources, and return its result."""

    def record(self, function: Callable[[], _R]) -> tuple[Callable[[], None], _R]:
        """Record a function; return a function that replays it, and the result, whose tensors a replay fills."""


class CudaRecorder:
    """Records into CUDA graphs with one pool of memory.

    Args:
        device: a CUDA device.
    """

    devices: tuple[str, ...] = ("cuda",)

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            # Autograd runs a node on the stream of its forward, so everything is recorded on one stream.
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
