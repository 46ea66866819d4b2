"""Buffers that a model's ``forward`` updates, such as a counter or an observer's range: a run leaves them unchanged."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


@dataclass(eq=False)
class _Kept:
    """One buffer of one module.

    Attributes:
        buffer: the module's own tensor.
        copy: its values before the run.
        version: its number of changes in place, when it was copied.
        moves: True once a run has changed it; later runs get a copy in its place, so that the values that a graph of an
            earlier run needs stay as they were.
        runs: number of runs that are under way.
        compared: True once the values were compared after a run, because an edit of ``buffer.data`` has no version.
    """

    buffer: Tensor
    copy: Tensor = field(init=False)
    version: int = -1
    moves: bool = False
    runs: int = 0
    compared: bool = False

    def take(self, buffer: Tensor) -> None:
        """Copy a buffer; an edit of ``buffer.data`` since the last copy would not show, and a comparison costs more."""
        self.buffer, self.copy, self.version = buffer, buffer.detach().clone(), _version(buffer)

    def put_back(self) -> None:
        """Give the buffer the values of the copy, if they differ."""
        if _version(self.buffer) != self.version or not (self.compared or _same(self.buffer, self.copy)):
            self.moves = True
            if self.buffer.shape != self.copy.shape:
                self.buffer.resize_(self.copy.shape)
            self.buffer.copy_(self.copy)
            self.version = _version(self.buffer)
        self.compared = True


_KEPT: "WeakKeyDictionary[nn.Module, dict[str, _Kept]]" = WeakKeyDictionary()
_LOCK = threading.Lock()


@contextmanager
def stored_buffers_kept(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Give every buffer in the state of modules back its values, and its place, when the context closes.

    What ``register_buffer(..., persistent=False)`` made is not in the state: it is a cache that belongs to the module.
    Several contexts may be open at once, nested or in several threads: the last one to close restores the values from
    before the first one.

    Args:
        modules: modules, with all of their submodules.
    """
    opened: list[tuple[nn.Module, str, _Kept]] = []
    copies: dict[int, Tensor] = {}
    try:
        with _LOCK, torch.no_grad():
            for module, name, buffer in _stored(modules):
                kept = _KEPT.setdefault(module, {}).get(name) or _KEPT[module].setdefault(name, _Kept(buffer))
                if not kept.runs:
                    kept.take(buffer)
                kept.runs += 1
                opened.append((module, name, kept))
                if kept.runs == 1 and kept.moves:
                    if id(buffer) not in copies:  # one buffer may have several places
                        copies[id(buffer)] = buffer.detach().clone()
                    _place(module, name, copies[id(buffer)])
        yield
    finally:
        with _LOCK, torch.no_grad():
            for module, name, kept in opened:
                kept.runs -= 1
                if not kept.runs:
                    if _at(module, name) is not kept.buffer:
                        _place(module, name, kept.buffer)
                    kept.put_back()


def _stored(modules: Iterable[nn.Module]) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Yield every module with the name of each buffer in its state, and the buffer."""
    for module in {id(child): child for each in modules for child in each.modules()}.values():
        left_out = getattr(module, "_non_persistent_buffers_set", ())
        for name, buffer in list(module._buffers.items()):
            if buffer is not None and name not in left_out and not is_lazy(buffer):
                yield module, name, buffer


def _at(module: nn.Module, name: str) -> object:
    buffers = module._buffers
    return buffers.get(name) if isinstance(buffers, dict) else getattr(module, name, None)


def _place(module: nn.Module, name: str, buffer: Tensor) -> None:
    if isinstance(module._buffers, dict):
        module._buffers[name] = buffer
    else:  # of a scripted module, whose ``_buffers`` are a view of what C++ holds
        setattr(module, name, buffer)


def _version(buffer: Tensor) -> int:
    return 0 if buffer.is_inference() else buffer._version


def _same(one: Tensor, other: Tensor) -> bool:
    """Return whether the values are the same, as far as they can be read."""
    return one.shape == other.shape and (one.is_meta or one.layout != torch.strided or torch.equal(one, other))
