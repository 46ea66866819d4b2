"""Count the operations of an iteration, and who owns the bytes of every tensor they make, from moment to moment.

No time is taken from such a run.
"""

import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves

from diffexplain_fast.engine.memory.counting import LiveBytes, Options
from diffexplain_fast.engine.memory.flop import Arguments, flop
from diffexplain_fast.measuring.profile.events import Call

WEIGHTS, KEPT, HELD, TRANSIENT = "weights", "kept", "held otherwise", "transient"
OWNERS = (WEIGHTS, KEPT, HELD, TRANSIENT)
"""Models' weights and their layouts; tensors that autograd, or the engine with it, keeps for a backward; other tensors
that the forward made and the backward still finds, such as samples, text, and those that other hooks keep; the rest."""
POINTS = 400
"""Most moments of the timeline; each stands for the most bytes of its interval."""
_UNREAD = ("copy_", "fill_", "zero_", "normal_", "uniform_", "empty_like", "zeros_like", "ones_like", "full_like")
"""Operations that do not read their first argument."""
_PICKING = ("embedding", "index", "index_select", "gather")
"""Operations that read as many bytes of their first argument as they write."""


class Operation(NamedTuple):
    """An operation as autograd sees it, without the operations inside."""

    name: str  # as torch's profiler gives it, such as "aten::mm"
    flop: int | None  # 2 per multiply-add, None where the operation has no formula
    moved: int  # bytes read and written


@dataclass
class Life:
    """A tensor's storage, from the operation that made it to its end; moments are numbers of operations before."""

    size: int  # bytes
    born: int
    died: int | None = None  # None if it outlives the count
    # from when to when autograd kept it for a backward; None where that outlives the count
    saved: list[tuple[int, int | None]] = field(default_factory=list)
    device: str = "cpu"  # type of the device it is on
    holders: int = field(default=0, compare=False)  # how many times autograd keeps it now


class Counter(LiveBytes):
    """Sees every operation while it is open; use ``counting``.

    Attributes:
        operations: in the order in which they ran.
        lives: storages that the operations made, except those laid out for oneDNN, which cannot be seen.
        ranges: names of the profiler's ranges, and the number of operations before each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.lives: list[Life] = []
        self.ranges: list[tuple[int, str]] = []
        self._life_of: weakref.WeakKeyDictionary[torch.UntypedStorage, Life] = weakref.WeakKeyDictionary()
        self._pausing = False

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: Arguments = (), kwargs: Options | None = None
    ) -> object:
        """Run one operation and note it."""
        name = func._schema.name
        if self._pausing or name.startswith("profiler::"):
            if name.endswith("_enter_new"):
                self.ranges.append((len(self.operations), args[0]))
            return func(*args, **(kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs)

    def run(self, func: OpOverload, args: Arguments, kwargs: Options) -> object:
        """Return the results of an operation, which is noted."""
        out = func(*args, **kwargs)
        moved = _moved_bytes(func, (args, kwargs), out)
        self.operations.append(Operation(func._schema.name, flop(func, args, kwargs, out), moved))
        return out

    def born(self, tensor: Tensor) -> None:
        """Begin the life of the storage of a tensor, which the last operation made."""
        super().born(tensor)
        storage = tensor.untyped_storage()
        life = self._life_of[storage] = Life(storage.nbytes(), len(self.operations) - 1, device=tensor.device.type)
        self.lives.append(life)
        weakref.finalize(storage, self._end, life)

    def pack(self, tensor: Tensor) -> "Tensor | _Saved":
        """Note that autograd keeps a tensor; return what it keeps instead."""
        life = self._life_of.get(tensor.untyped_storage()) if tensor.layout is torch.strided else None
        if life is None:
            return tensor
        self._pausing = True
        try:
            saved = _Saved(tensor.detach())  # a tensor that knows its node would keep itself alive
        finally:
            self._pausing = False
        life.holders += 1
        if life.holders == 1:
            life.saved.append((len(self.operations), None))
        weakref.finalize(saved, self._release, life)
        return saved

    def _release(self, life: Life) -> None:
        life.holders -= 1
        if life.holders == 0:
            life.saved[-1] = life.saved[-1][0], len(self.operations)

    def _end(self, life: Life) -> None:
        life.died = len(self.operations)


@dataclass(eq=False)
class _Saved:
    """Stands for a tensor that autograd keeps."""

    tensor: Tensor


@contextmanager
def counting() -> Iterator[Counter]:
    """Count all operations while the context is open, those of backwards in other threads too."""
    counter = Counter()
    hooks = counter.pack, lambda saved: saved.tensor if isinstance(saved, _Saved) else saved
    with torch.autograd.graph.saved_tensors_hooks(*hooks), counter:
        yield counter


def _moved_bytes(function: OpOverload, arguments: object, out: object) -> int:
    """The bytes of all tensors that an operation reads and of all that it writes, from their shapes.

    Each counts once for reading and once for writing, however often caches were missed. Repeated elements of an
    expanded tensor count once. Of a table only the rows that are looked up count.
    """
    name = function._schema.name.removeprefix("aten::")
    read, written = ([_bytes(leaf) for leaf in tree_leaves(it) if isinstance(leaf, Tensor)] for it in (arguments, out))
    if name in _UNREAD or name in _PICKING:
        read = read[1:]
    return sum(read) + sum(written) * (2 if name in _PICKING else 1)


def _bytes(tensor: Tensor) -> int:
    """The bytes of a tensor's different elements; of a weight laid out for oneDNN without its padding."""
    shape = tensor.shape
    if tensor.layout is torch.strided:
        shape = torch.Size(n for n, stride in zip(shape, tensor.stride(), strict=True) if stride != 0)
    return shape.numel() * tensor.element_size()


def match(operations: Sequence[Operation], calls: Sequence[Call]) -> list[Call | None]:
    """Return the call of each operation, None where the two runs had not equally many of its name.

    The profile knows the time, the count knows the tensors: operations are of one iteration, calls of another one, by
    their start. The n-th operation of a name is the n-th call of that name which no other counted operation had called.
    In place or not is the same name, because autograd adds gradients in place only while nobody counts.
    """
    names = [operation.name.removesuffix("_") for operation in operations]
    outermost: dict[str, list[Call]] = {name: [] for name in names}
    reached = float("-inf")
    for call in calls:
        if call.start >= reached and (name := call.name.removesuffix("_")) in outermost:
            outermost[name].append(call)
            reached = call.end
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        places[name].append(place)
    same = (zip(places[name], seen, strict=True) for name, seen in outermost.items() if len(seen) == len(places[name]))
    call_at = {place: call for pairs in same for place, call in pairs}
    return [call_at.get(place) for place in range(len(names))]


def starts(calls: Sequence[Call | None], begin: float) -> list[float]:
    """Return the seconds from ``begin``, on the clock of the calls, at which each operation of ``match`` began.

    An operation without a call began as the one before it.
    """
    moments, latest = [], 0.0
    for call in calls:
        latest = latest if call is None else max(latest, call.start - begin)
        moments.append(latest)
    return moments


@dataclass(frozen=True)
class Timeline:
    """Bytes of counted tensors over time, by owner."""

    moments: Sequence[float]  # seconds since the iteration began, on the clock of the profiled iteration
    # bytes at these moments by owner, ``OWNERS`` in their order; together they are everything that was counted
    owners: Mapping[str, Sequence[int]]

    @property
    def totals(self) -> list[int]:
        """Bytes of all owners at each moment."""
        return _totals(self.owners)


@dataclass(frozen=True)
class Memory:
    """Bytes of one iteration."""

    peak: int  # most bytes at once; measured on a GPU, counted on the CPU
    covers: str  # which tensors the peak counts
    # bytes by owner: the models' weights as loaded, and those that the sampler keeps by its plan; on a GPU also bytes
    # on the host, and those that the allocator reserved beyond the counted tensors
    owners: Mapping[str, int]
    predicted: int | None  # peak that the plan predicts, None without a plan
    timeline: Timeline  # bytes by owner over time, counted
    # on a GPU most bytes that torch's allocator held at once in the counted iteration, else None
    reserved: int | None = None


def bytes_by_owner(lives: Iterable[Life], operations: int, backward: int) -> dict[str, list[int]]:
    """Return the bytes after each operation under ``KEPT``, ``HELD`` and ``TRANSIENT``; weights are not among them.

    ``lives`` are of tensors that so many ``operations`` made, of which ``backward`` came before the backward began.
    """
    changes = {owner: [0] * (operations + 1) for owner in (KEPT, HELD, TRANSIENT)}

    def owned(owner: str, size: int, start: int, end: int) -> None:
        changes[owner][start] += size
        changes[owner][end] -= size

    for life in lives:
        end = operations if life.died is None else life.died
        otherwise, free = HELD if life.born < backward < end else TRANSIENT, life.born
        for start, stop in life.saved:
            owned(otherwise, life.size, free, start)
            free = end if stop is None else stop
            owned(KEPT, life.size, start, free)
        owned(otherwise, life.size, free, end)
    return {owner: list(accumulate(change[:-1])) for owner, change in changes.items()}


def most_bytes(alive: Mapping[str, Sequence[int]]) -> int:
    """Return the most bytes of all owners at once."""
    return max(_totals(alive), default=0)


def timeline(alive: Mapping[str, Sequence[int]], weights: int, moments: Sequence[float], seconds: float) -> Timeline:
    """Return the bytes by owner at no more than ``POINTS`` moments, in equal steps; each is the most of its step.

    Args:
        alive: from ``bytes_by_owner``.
        weights: bytes of all weights and their layouts.
        moments: seconds from the iteration's begin to each operation.
        seconds: of the whole iteration.
    """
    totals, most = _totals(alive), dict[int, int]()
    for number, moment in enumerate(moments):
        step = min(int(POINTS * moment / seconds), POINTS - 1)
        if step not in most or totals[number] > totals[most[step]]:
            most[step] = number
    chosen = [most[step] for step in sorted(most)]
    owners = {owner: [sizes[number] for number in chosen] for owner, sizes in alive.items()}
    return Timeline([seconds * step / POINTS for step in sorted(most)], {WEIGHTS: [weights] * len(chosen), **owners})


def _totals(owners: Mapping[str, Sequence[int]]) -> list[int]:
    return [sum(sizes) for sizes in zip(*owners.values(), strict=True)]
