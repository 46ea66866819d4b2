"""Count the operations of an iteration and the life of every tensor they make; no time is taken from such a run."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diffexplain_fast.engine.memory.flop import flop
from diffexplain_fast.measuring.profile.moved import moved_bytes

_RANGE = "profiler::"


class Operation(NamedTuple):
    """An operation as autograd sees it, without what it calls.

    Attributes:
        name: as torch's profiler gives it, such as "aten::mm".
        flop: 2 per multiply-add, None where the operation has no formula.
        moved: bytes read and written.
    """

    name: str
    flop: int | None
    moved: int


@dataclass
class Life:
    """A tensor's storage, from the operation that made it to its end; moments are numbers of operations before.

    Attributes:
        size: bytes.
        born: when it was made.
        died: when it was freed, None if it outlives the count.
        saved: from when to when autograd kept it for a backward; None where that outlives the count.
        device: type of the device it is on.
    """

    size: int
    born: int
    died: int | None = None
    saved: list[tuple[int, int | None]] = field(default_factory=list)
    device: str = "cpu"


class Counter(TorchDispatchMode):
    """Sees every operation while it is open; use ``counting``.

    Attributes:
        operations: in the order in which they ran.
        lives: storages that they made. What was there before, such as weights, is none of them, nor is a weight that
            is laid out for oneDNN, whose storage cannot be seen.
        ranges: names of the profiler's ranges, and the number of operations before each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.lives: list[Life] = []
        self.ranges: list[tuple[int, str]] = []
        self._found: weakref.WeakKeyDictionary[Any, Life | None] = weakref.WeakKeyDictionary()
        self._holders: dict[int, int] = {}
        self._pausing = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and note it."""
        options = kwargs or {}
        name = func._schema.name
        if self._pausing or name.startswith(_RANGE):
            if name.endswith("_enter_new"):
                self.ranges.append((len(self.operations), args[0]))
            return func(*args, **options)
        for tensor in _strided((args, options)):
            self._found.setdefault(tensor.untyped_storage(), None)
        out = func(*args, **options)
        now = len(self.operations)
        self.operations.append(Operation(name, flop(func, args, options, out), moved_bytes(func, args, options, out)))
        for tensor in _strided(out):
            storage = tensor.untyped_storage()
            if storage not in self._found:
                life = self._found[storage] = Life(storage.nbytes(), now, device=tensor.device.type)
                self.lives.append(life)
                weakref.finalize(storage, self._end, life)
        return out

    def pack(self, tensor: Tensor) -> "Tensor | _Saved":
        """Note that autograd keeps a tensor; the other hook of the pair is ``unpack``.

        Args:
            tensor: what it keeps.
        """
        life = self._found.get(tensor.untyped_storage()) if tensor.layout is torch.strided else None
        if life is None:
            return tensor
        self._pausing = True
        try:
            saved = _Saved(tensor.detach())  # a tensor that knows its node would keep itself alive
        finally:
            self._pausing = False
        number = self._holders[id(life)] = self._holders.get(id(life), 0) + 1
        if number == 1:
            life.saved.append((len(self.operations), None))
        weakref.finalize(saved, self._release, life)
        return saved

    def unpack(self, saved: "Tensor | _Saved") -> Tensor:
        """Return what was packed.

        Args:
            saved: from ``pack``.
        """
        return saved if isinstance(saved, Tensor) else saved.tensor

    def _release(self, life: Life) -> None:
        self._holders[id(life)] -= 1
        if self._holders[id(life)] == 0:
            life.saved[-1] = life.saved[-1][0], len(self.operations)

    def _end(self, life: Life) -> None:
        life.died = len(self.operations)


class _Saved:
    """What autograd keeps in the place of a tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@contextmanager
def counting() -> Iterator[Counter]:
    """Count all operations while the context is open, those of backwards in other threads too."""
    counter = Counter()
    with torch.autograd.graph.saved_tensors_hooks(counter.pack, counter.unpack), counter:
        yield counter


def _strided(tree: Any) -> list[Tensor]:
    """Return the tensors whose storage can be seen."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.layout is torch.strided]
