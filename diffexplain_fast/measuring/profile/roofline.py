"""How near to what the machine can do: FLOP and bytes of each kind of work against ceilings measured beside it.

With F FLOP, B bytes moved and t seconds, a kind of work runs at F / t of at most min(P, F / B * W) FLOP/s, where P is
the rate of a large matrix product and W that of a large copy. Work without a count of FLOP moves B / t of at most W.

Source: Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", 2009.
"""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from diffexplain_fast.measuring.profile.counting import Operation
from diffexplain_fast.measuring.profile.events import HOST, MOVES, Call, family

SIDES = {"cpu": 1536, "cuda": 8192}
"""Side of the square matrices whose product is the ceiling, by type of device."""
_SMALLER = 4  # divisor of the side where a product would take longer than ``_PATIENCE``, as float16 on many CPUs
_COPIED = 2**28  # bytes of the copy that is the other ceiling: more than caches hold
_REPEATS, _PATIENCE = 5, 1.0  # most repetitions, of which the fastest counts, and seconds after which no other begins
_COPYING = ("aten::clone", "aten::_to_copy")
"""Operations that copy through others; the table of families has those others."""


@dataclass(frozen=True)
class Ceilings:
    """What the machine can do, measured."""

    dtype: str  # of the product
    flop_rate: float  # FLOP/s of a large matrix product, under torch's settings of precision
    byte_rate: float  # bytes/s, read and written, of a large copy


@dataclass(frozen=True)
class Work:
    """The figures of one kind of work."""

    name: str  # of the family or operator
    kind: str  # family
    calls: int  # how many calls were counted and found in the profile; the figures below cover no others
    of: int  # how many calls there were
    seconds: float  # of these calls with the calls inside; on a GPU in their kernels
    flop: int | None  # 2 per multiply-add, None where no call has a formula
    moved: int  # bytes that the calls read and write, each tensor once for each call
    intensity: float | None  # FLOP per byte moved, None without FLOP
    # of what the ceilings allow, None where nothing was counted; above 1 where caches hold the data
    share: float | None


@dataclass(frozen=True)
class Roofline:
    """Kinds of work under their ceilings."""

    ceilings: Ceilings  # measured in the same run
    # the longest first, those of which nothing was counted last. Where some operations of a family have a formula for
    # FLOP, others do not count
    families: Sequence[Work]
    operators: Sequence[Work]  # the longest


def measure_ceilings(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Time a large product in a dtype, and a large copy; takes a few seconds at most."""
    source = torch.ones(_COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = _fastest(lambda: target.copy_(source), device)
    return Ceilings(str(dtype).removeprefix("torch."), product_rate(device, dtype), 2 * _COPIED / copy)


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the most FLOP in a second that a large matrix product reaches, on a CPU with the threads of torch.

    Of a factor as it is and a transposed one, as in a linear layer, the faster is taken: some kernels have one of them.
    """
    side = SIDES.get(device.type, SIDES["cpu"])
    rate, transposed = max((_rate(device, dtype, side // _SMALLER, way), way) for way in (False, True))
    if 2 * side**3 / rate < _PATIENCE:
        rate = max(rate, _rate(device, dtype, side, transposed))
    return rate


def make_roofline(
    operations: Sequence[Operation],
    call_of: Sequence[Call | None],
    calls: Sequence[Call],
    on_gpu: bool,
    ceilings: Ceilings,
    top: int,
) -> Roofline:
    """Return the work of each family and of the ``top`` longest operators, without the host's.

    ``call_of`` has the call of each counted operation in the profile, from ``match``; ``calls`` are all calls of the
    host, by their start. The time is that of kernels ``on_gpu``.
    """
    begun = [call.start for call in calls]
    before = [0.0, *accumulate(sum(seconds for _, seconds in call.kernels) for call in calls)]

    def seconds(call: Call) -> float:  # on a GPU of the kernels that were launched within the call
        if not on_gpu:
            return call.end - call.start
        return before[bisect_left(begun, call.end)] - before[bisect_left(begun, call.start)]

    names = [name for call in calls for name, _ in call.kernels] if on_gpu else [call.name for call in calls]
    by_family: dict[str, list[tuple[Operation, float | None]]] = {kind: [] for kind in map(family, names)}
    by_name: defaultdict[str, list[tuple[Operation, float | None]]] = defaultdict(list)
    for operation, call in zip(operations, call_of, strict=True):
        timed = operation, call and seconds(call)
        by_family.setdefault(_kind(operation.name), []).append(timed)
        by_name[operation.name].append(timed)
    families = [_work(kind, kind, timed, ceilings) for kind, timed in by_family.items() if kind != HOST]
    operators = [_work(name, _kind(name), timed, ceilings) for name, timed in by_name.items() if _kind(name) != HOST]
    families.sort(key=lambda work: -work.seconds)
    operators.sort(key=lambda work: -work.seconds)
    return Roofline(ceilings, families, operators[:top])


def attainable(ceilings: Ceilings, intensity: float) -> float:
    """Return the most FLOP/s that ceilings allow at an intensity in FLOP per byte, above 0."""
    return min(ceilings.flop_rate, intensity * ceilings.byte_rate)


def _work(name: str, kind: str, every: Sequence[tuple[Operation, float | None]], ceilings: Ceilings) -> Work:
    """Add up the operations that were found in the profile."""
    timed = [(operation, spent) for operation, spent in every if spent is not None]
    with_flop = [(operation, spent) for operation, spent in timed if operation.flop is not None]
    counted = with_flop or timed
    seconds, moved = sum(spent for _, spent in counted), sum(operation.moved for operation, _ in counted)
    flop = sum(operation.flop or 0 for operation, _ in counted) if with_flop else None
    intensity = flop / moved if flop and moved else None
    share = None
    if seconds > 0 and moved > 0:
        share = moved / seconds / ceilings.byte_rate
        if flop and intensity is not None:
            share = flop / seconds / attainable(ceilings, intensity)
    return Work(name, kind, len(counted), len(every), seconds, flop, moved, intensity, share)


def _kind(name: str) -> str:
    return MOVES if name in _COPYING else family(name)


def _rate(device: torch.device, dtype: torch.dtype, side: int, transposed: bool) -> float:
    """Return the FLOP/s of a product of square matrices, the second of which may be a transposed view."""
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(side, side, generator=generator, device=device).to(dtype) for _ in range(2))
    out, factor = torch.empty_like(a), b.T if transposed else b
    return 2 * side**3 / _fastest(lambda: torch.mm(a, factor, out=out), device)


def _fastest(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest of some runs after one to warm up."""
    taken: list[float] = []
    while len(taken) < 2 or (len(taken) <= _REPEATS and sum(taken) < _PATIENCE):
        begin = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - begin)
    return min(taken[1:])
