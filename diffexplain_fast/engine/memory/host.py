"""Tensors that a step keeps for its backward, moved to host memory until then; pinned memory if there is a GPU."""

import functools
import weakref
from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from torch import Tensor

_SMALL = 2**16
"""Bytes up to which a copy costs more than it saves."""


class _View(NamedTuple):
    """A tensor whose storage is elsewhere."""

    storage: int
    dtype: torch.dtype
    size: torch.Size
    stride: tuple[int, ...]
    offset: int | torch.SymInt


class Offloaded:
    """The storages that one step keeps, each moved once however many tensors share it.

    Copies run on a stream of their own beside the computation. ``fetch`` before the backward, ``free`` after it.

    Args:
        held: keys of tensors that stay allocated, such as weights; never offloaded.

    Attributes:
        nbytes: bytes moved so far.
    """

    def __init__(self, held: Collection[int]) -> None:
        self._held, self.nbytes = held, 0
        # Keyed by living storages and not by address, because a new storage may get the address of a freed one.
        self._numbers: weakref.WeakKeyDictionary[torch.UntypedStorage, int] = weakref.WeakKeyDictionary()
        self._host: dict[int, Tensor] = {}
        self._back: dict[int, tuple[Tensor, torch.cuda.Event | None]] = {}
        self._device: torch.device | None = None
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)

    def fetch(self) -> None:
        """Copy everything back while the computation goes on, beginning with the last storage that was kept."""
        for key in reversed(self._host):
            self._fetched(key)

    def free(self) -> None:
        """Free everything that was copied back, after the last copy has ended."""
        if self._device is not None and self._device.type == "cuda":
            torch.cuda.current_stream(self._device).wait_stream(_copies(self._device))
        self._host.clear()
        self._back.clear()

    def _pack(self, tensor: Tensor) -> Tensor | _View:
        storage = tensor.untyped_storage()
        if storage.nbytes() <= _SMALL or storage_key(tensor) in self._held:
            return tensor
        number = self._numbers.setdefault(storage, len(self._host))
        if number not in self._host:
            self._host[number] = self._to_host(tensor)
            self.nbytes += storage.nbytes()
        return _View(number, tensor.dtype, tensor.size(), tensor.stride(), tensor.storage_offset())

    def _unpack(self, packed: Tensor | _View) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        whole, ready = self._fetched(packed.storage)
        if ready is not None:
            torch.cuda.current_stream(whole.device).wait_event(ready)
        tensor = torch.empty(0, dtype=packed.dtype, device=whole.device)
        return tensor.set_(whole.untyped_storage(), packed.offset, packed.size, packed.stride)

    @torch.no_grad()
    def _to_host(self, tensor: Tensor) -> Tensor:
        self._device = tensor.device
        data = _as_bytes(tensor)
        if tensor.device.type != "cuda":
            return data.clone()
        copies, host = _copies(tensor.device), torch.empty(data.shape, dtype=torch.uint8, pin_memory=True)
        copies.wait_stream(torch.cuda.current_stream(tensor.device))
        with torch.cuda.stream(copies):
            host.copy_(data, non_blocking=True)
        data.record_stream(copies)  # the memory is not reused before it has been read
        return host

    @torch.no_grad()
    def _fetched(self, key: int) -> tuple[Tensor, torch.cuda.Event | None]:
        """Return a storage as bytes on the device, and the event after which the bytes are complete."""
        if key not in self._back:
            host, device = self._host[key], self._device
            if device is None or device.type != "cuda":
                self._back[key] = host, None
                return self._back[key]
            data, copies = torch.empty(host.shape, dtype=torch.uint8, device=device), _copies(device)
            copies.wait_stream(torch.cuda.current_stream(device))  # the memory's previous tensor may still be read
            with torch.cuda.stream(copies):
                data.copy_(host, non_blocking=True)
                ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
                ready.record(copies)
            self._back[key] = data, ready
        return self._back[key]


def storage_key(tensor: Tensor) -> int:
    """Return a key of the storage of a living tensor, its address."""
    return tensor.untyped_storage().data_ptr()


def flop_per_byte(device: torch.device, dtype: torch.dtype) -> float | None:
    """Measure how many FLOP of a convolution a CUDA device does while it copies a byte; None on other devices.

    Args:
        device: device of the models.
        dtype: dtype of the models.
    """
    if device.type != "cuda":
        return None
    x = torch.randn(2, 320, 64, 64, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(320, 320, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    host = torch.empty(2**25, dtype=torch.uint8, pin_memory=True)
    moved = torch.empty_like(host, device=device)
    with torch.no_grad():
        convolution = _seconds(lambda: torch.nn.functional.conv2d(x, weight, padding=1))
        copy = _seconds(lambda: moved.copy_(host, non_blocking=True))
    flop = 2 * x.numel() * weight[:, 0].numel()
    return flop / convolution * copy / host.nbytes


def _seconds(function: Callable[[], object], runs: int = 5) -> float:
    """Return the seconds that one call takes on the current CUDA device."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    function()
    begin.record()
    for _ in range(runs):
        function()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / runs / 1e3


def _as_bytes(tensor: Tensor) -> Tensor:
    """Return the whole storage of a tensor as bytes."""
    storage = tensor.untyped_storage()
    return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage, 0, (storage.nbytes(),), (1,))


def _copies(device: torch.device) -> torch.cuda.Stream:
    """Return the stream on which a CUDA device copies, one for the process."""
    return _stream(torch.cuda.current_device() if device.index is None else device.index)


@functools.cache
def _stream(index: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(index)  # type: ignore[no-untyped-call]
