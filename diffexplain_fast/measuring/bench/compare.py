"""Time and memory of one optimisation iteration, ours beside every rival.

Each rival is measured beside ours in rounds by turns (ours, rival, ours, rival ...), ratios are taken within a round
and their median is reported, because absolute times drift. Ours is the one baseline of all; a rival, with everything it
has recorded, is dropped before the next one is made. A rival whose gradient is not the plain one's gets no figures.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.measuring.bench import workloads
from diffexplain_fast.measuring.bench.budgets import at_budgets, memory_plan
from diffexplain_fast.measuring.bench.device import Held, driver_state, held_bytes, joules, memory, needs
from diffexplain_fast.measuring.bench.gate import gates, gradient, reason, short, shown
from diffexplain_fast.measuring.bench.rivals import OTHER_GRADIENT, OURS, PLAIN, RIVALS, Make
from diffexplain_fast.measuring.bench.rows import Row
from diffexplain_fast.measuring.bench.workloads import Sampled, Workload
from diffexplain_fast.measuring.profile.roofline import product_rate

_LEAST_ROUNDS = 2  # fewer have no quantiles
_MORE_TO_WARM = 2
"""Iterations after the first that prepare, on noise of their own, as in the rounds: ours may be recorded in one."""
BOUNDS = {"tinyworld": {"diffusers block checkpointing": 2.0, PLAIN: 1.3}}
"""By workload, how many times faster than these ours has to be on the CPU."""
_Turn = tuple[float, float | None]  # seconds of an iteration, and its energy in joules where the driver tells it


class _Ready:
    """A rival that was run often enough to be recorded, and its memory; ``shared`` is held by the models anyway."""

    def __init__(self, make: Make, workload: Workload, rounds: int, device: torch.device, shared: Held) -> None:
        self._workload, self._device = workload, device
        before, began = held_bytes(device), time.perf_counter()
        self._images = make(workload.setting)
        self._run(0)
        self.figures: Row = {"first_s": time.perf_counter() - began}
        for number in range(_MORE_TO_WARM):
            self._run(rounds + 1 + number)
        own = Held(*(base + new - old for base, new, old in zip(shared, held_bytes(device), before, strict=True)))
        self.figures |= memory(partial(self._run, 0), device, own)

    def turn(self, number: int) -> _Turn:
        """Run and time one iteration."""
        energy, began = joules(self._device), time.perf_counter()
        self._run(number)
        took, now = time.perf_counter() - began, joules(self._device)
        return took, None if energy is None or now is None else now - energy

    def said(self) -> Row:
        """Return limit, predicted peak and recomputation of our plan, and the sampler's record of what ran."""
        if not isinstance(self._images, Sampled):
            return {"plan": None}
        plan, ran = self._images.sampler.plan, self._images.sampler.record()
        told = None if plan is None else {"limit": plan.limit, "peak": plan.peak, "recompute": plan.recompute}
        # JSON has no word for numbers that are not finite, and such a number is worth reading.
        finite = {key: str(it) if isinstance(it, float) and not math.isfinite(it) else it for key, it in ran.items()}
        return {"plan": told, "record": finite}

    def _run(self, number: int) -> None:
        gradient(self._workload, self._images, number)


class _Beside:
    """Measures one rival after the other beside ours, which is None if its gradient is wrong.

    After ``until``, a reading of ``time.monotonic``, no round begins except those that quantiles need.
    """

    def __init__(self, ours: Make | None, workload: Workload, rounds: int, device: torch.device, until: float) -> None:
        self._given = workload, rounds, device, held_bytes(device)
        self._make, self._rounds, self._device, self._until = ours, rounds, device, until
        self._ours: _Ready | None = None
        self._median: float | None = None
        self.interrupted = self._full = False

    def row(self, make: Make) -> Row:
        """Return a rival's row, empty if too few of its rounds are complete.

        Ours comes first. Where there is no memory for both, ours makes room, and the ratio is that of their medians.
        """
        row = self._tried(make)
        if make is self._make:
            self._median = row.get("median_s")
            self._make = None if "refused" in row else make
        elif self._full and self._make is not None:
            self._ours = None
            row = self._tried(make, alone=True)
        return row

    def _tried(self, make: Make, alone: bool = False) -> Row:
        self._full = False
        try:
            return self._measured(make, alone)
        except Exception as problem:  # it may be anybody's code; the row says why it stopped
            # The error that ends a failed capture may hide the one that made it fail.
            self._full = any(isinstance(each, torch.OutOfMemoryError) for each in (problem, problem.__context__))
            return {"refused": reason(problem)}

    def _measured(self, make: Make, alone: bool) -> Row:
        if not alone and self._ours is None and self._make is not None:
            self._ours = _Ready(self._make, *self._given)
        ours = self._ours
        theirs = ours if ours is not None and make is self._make else _Ready(make, *self._given)
        turns: list[list[_Turn]] = []
        try:
            for number in range(1, self._rounds + 1):
                if time.monotonic() >= self._until and len(turns) >= _LEAST_ROUNDS:
                    break
                turns.append([each.turn(number) for each in dict.fromkeys((ours, theirs)) if each is not None])
        except KeyboardInterrupt:
            self.interrupted = True
        if len(turns) < _LEAST_ROUNDS:
            return {}
        row = theirs.figures | self._times(turns, ours is not None) | theirs.said()
        return row | {"gpu": driver_state(self._device)}

    def _times(self, turns: Sequence[Sequence[_Turn]], together: bool) -> Row:
        every = [each[-1][0] for each in turns]
        low, *_, high = statistics.quantiles(every, n=5, method="inclusive")
        median, ratios = statistics.median(every), [each[-1][0] / each[0][0] for each in turns]
        ratio = statistics.median(ratios) if together else self._median and median / self._median
        used = [each[-1][1] for each in turns if each[-1][1] is not None]
        times = {"median_s": median, "low_s": low, "high_s": high, "rounds": len(every), "times_ours": ratio}
        return times | {"interleaved": together, "joules": statistics.mean(used) if used else None}


def _measure(
    workload: Workload, rivals: Mapping[str, Make], rounds: int, device: torch.device, until: float
) -> Iterator[tuple[str, Row]]:
    """Yield each rival's name and figures as its rounds are complete, or why it has none; ours first.

    Interrupted or late, the rounds that were complete count, if they are enough.
    """
    beside = _Beside(rivals.get(OURS), workload, rounds, device, until)
    for name in shown(sorted(rivals, key=lambda name: name != OURS), "rivals"):
        if time.monotonic() >= until:
            return
        if row := beside.row(rivals[name]):
            yield name, row
        if beside.interrupted:
            raise KeyboardInterrupt


def compare(
    make: workloads.Make,
    dtype: torch.dtype,
    device: torch.device,
    names: Sequence[str],
    *,
    budgets: Sequence[str] = (),
    rounds: int = 9,
    until: float = math.inf,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[str, Row]]:
    """Check gradients, and measure each rival whose gradient is right: ours, ours at budgets, then the others.

    Args:
        make: the workload on a device in a dtype.
        dtype: in which it is measured; gradients are compared in float32.
        device: where.
        names: keys of ``RIVALS``.
        budgets: memory at which ours is measured too, see ``parse_budget``.
        rounds: at least 2.
        until: reading of ``time.monotonic`` after which nothing more is begun.
        say: told the plan of memory, line by line, before anything is measured.

    Yields:
        Name and row of a rival as soon as it is known: its figures or why it is refused, and the figures of all.

    Raises:
        KeyboardInterrupt: interrupted, after the rows that are known.
        ValueError: too few rounds, or no such budget.
    """
    if rounds < _LEAST_ROUNDS:
        raise wrong_value("rounds", "at least 2, for quantiles", rounds)
    few, needed = short(whole := make(device, torch.float32)), needs(make, dtype, device)
    ceiling, setting = product_rate(device, dtype), whole.setting
    same: Row = {"steps": setting.steps, "guidance_scale": setting.guidance_scale, "batch": whole.batch}
    same |= {"flop": needed and needed.total, "ceiling_flop_s": ceiling}
    named = {name: RIVALS[name] for name in names}
    for line in memory_plan(names, budgets, needed and needed.peak):
        say(line)
    own = {OURS: named.pop(OURS)} if OURS in named else {}
    rows: dict[str, Row] = {}
    for name, row in gates(few, {**own, **at_budgets(budgets, few, checked=True), **named}, until):
        rows[name] = same | row
        if "refused" in row:
            yield name, rows[name]
    del few, whole, setting
    workload = make(device, dtype)
    rivals = own | dict(at_budgets(budgets, workload)) | named
    agreeing = {name: rival for name, rival in rivals.items() if name in rows and "refused" not in rows[name]}
    for name, row in _measure(workload, agreeing, rounds, device, until):
        if "median_s" in row:
            same_work = None if name in OTHER_GRADIENT else needed
            row["share_of_ceiling"] = None if same_work is None else same_work.total / row["median_s"] / ceiling
        yield name, rows[name] | row


def verdict(rows: Mapping[str, Row], bounds: Mapping[str, float]) -> str | None:
    """Return which rivals were refused, and which missed their bound of times that ours has to be faster; or None."""
    refused = [name for name, row in rows.items() if "refused" in row]
    missed = [each for each in bounds if each in rows and not (rows[each].get("times_ours") or 0) >= bounds[each]]
    parts = {"refused": refused, "missed": missed}
    return "; ".join(f"{word}: {', '.join(names)}" for word, names in parts.items() if names) or None
