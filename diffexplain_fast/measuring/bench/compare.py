"""Time and memory of one optimisation iteration, ours beside every rival.

Rounds are interleaved (A B C A B C ...), ratios are taken within a round and their median is reported, because absolute
times drift. A rival whose gradient is not the plain one's gets no figures.
"""

import gc
import math
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.measuring.bench import workloads
from diffexplain_fast.measuring.bench.budgets import at_budgets
from diffexplain_fast.measuring.bench.device import (
    Held,
    driver_state,
    flop,
    held_bytes,
    joules,
    matmul_ceiling,
    memory,
)
from diffexplain_fast.measuring.bench.rivals import OTHER_GRADIENT, OURS, PLAIN, RIVALS, Make, plain, step_checkpointing
from diffexplain_fast.measuring.bench.setting import Images, Sampled
from diffexplain_fast.measuring.bench.workloads import Workload

AGREEMENT = 1e-2
"""Largest relative L2 distance of a float32 gradient to plain autograd's that counts as the same gradient."""
_GATE_STEPS = 2
_Item = TypeVar("_Item")
_LEAST_ROUNDS = 2
"""Fewer have no quantiles."""
_MORE_TO_WARM = 2
"""Iterations after the first that prepare, on noise of their own, as in the rounds: ours may be recorded in one."""
BOUNDS = {"tinyworld": {"diffusers block checkpointing": 2.0, PLAIN: 1.3}}
"""By workload, how many times faster than these ours has to be on the CPU."""


class Comparison(NamedTuple):
    """What was measured in one run.

    Attributes:
        conditions: what is the same for all rows: steps, guidance_scale, batch, FLOP of an iteration, the most FLOP in
            a second that a matrix product reached, and the GPU's driver, clocks and power limit after the rounds.
        rows: by rival, its figures or why it is refused.
    """

    conditions: dict[str, Any]
    rows: dict[str, dict[str, Any]]


def gradient(workload: Workload, images: Images, number: int) -> Tensor:
    """Return one iteration's gradient with respect to what is optimised, after the device has finished.

    Args:
        workload: prompt, noise and target.
        images: by whom they are drawn.
        number: of the iteration, which seeds its noise.

    Raises:
        ValueError: the images do not depend on the prompt.
    """
    soft = workload.start.clone().requires_grad_()
    # Not torch.autograd.grad: a rival that leaves its weights unfrozen pays for their gradients too.
    workload.loss(images(workload.embeds(soft), workload.latents(number))).backward()
    if soft.grad is None:
        raise ValueError("the images have no gradient with respect to the prompt")
    if soft.is_cuda:
        torch.cuda.synchronize(soft.device)
    return soft.grad


def short(workload: Workload) -> Workload:
    """Return a workload with as few steps as its gradients are compared on."""
    return workload.with_options(steps=_GATE_STEPS)


def gates(workload: Workload, rivals: Mapping[str, Make]) -> dict[str, dict[str, Any]]:
    """Return each rival's relative L2 distance to plain autograd's gradient, and why it is refused if it is.

    Where there is no memory for plain autograd, the truth is the same gradient with one checkpoint around each step.

    Args:
        workload: in float32, of few steps.
        rivals: by name; one that raises is refused with what it said.
    """
    try:
        truth = gradient(workload, plain(workload.setting), 0)
    except torch.OutOfMemoryError:  # the same operations, and room for them on a small card
        truth = gradient(workload, step_checkpointing(workload.setting), 0)
    found: dict[str, dict[str, Any]] = {}
    for name, make in _shown(rivals.items(), "comparing gradients"):
        try:
            distance = float((gradient(workload, make(workload.setting), 0) - truth).norm() / truth.norm())
        except Exception as problem:  # it may be anybody's code; the row says what it was
            found[name] = {"gradient_distance": None, "refused": _reason(problem)}
            continue
        found[name] = {"gradient_distance": distance if math.isfinite(distance) else None}
        if not math.isfinite(distance) or (distance > AGREEMENT and name not in OTHER_GRADIENT):
            found[name]["refused"] = f"its gradient is {distance:.1e} from plain autograd's"
    return found


def _shown(items: Iterable[_Item], doing: str) -> Iterable[_Item]:
    """The same items, with a bar while they are worked on, on a terminal only."""
    return tqdm(list(items), desc=doing, leave=False, disable=None)


def _reason(problem: Exception) -> str:
    return f"{type(problem).__name__}: {str(problem).partition(chr(10))[0]}"


def measure(
    workload: Workload, rivals: Mapping[str, Make], rounds: int, device: torch.device
) -> dict[str, dict[str, Any]]:
    """Return each rival's figures from interleaved rounds, or why it has none.

    Args:
        workload: what is measured.
        rivals: by name.
        rounds: at least 2.
        device: where.
    """
    made: dict[str, Images] = {}
    own: dict[str, Held] = {}
    rows: dict[str, dict[str, Any]] = {}
    gc.collect()
    shared = before = held_bytes(device)
    for name, make in _shown(rivals.items(), "first results"):
        began = time.perf_counter()
        try:
            images = make(workload.setting)
            gradient(workload, images, 0)
            first = time.perf_counter() - began
            for number in range(_MORE_TO_WARM):
                gradient(workload, images, rounds + 1 + number)
        except Exception as problem:  # such as one that needs more memory than there is
            rows[name] = {"refused": _reason(problem)}
            continue
        made[name], rows[name] = images, {"first_s": first}
        after = held_bytes(device)
        own[name] = Held(*(base + new - old for base, new, old in zip(shared, after, before, strict=True)))
        before = after
    seconds, energy = _rounds(workload, made, rounds, device)
    ours = seconds.get(OURS)
    for name, every in seconds.items():
        low, *_, high = statistics.quantiles(every, n=5, method="inclusive")
        rows[name] |= {
            **memory(partial(gradient, workload, made[name], 0), device, own[name]),
            "median_s": statistics.median(every),
            "low_s": low,
            "high_s": high,
            "rounds": len(every),
            "times_ours": ours and statistics.median(theirs / mine for theirs, mine in zip(every, ours, strict=True)),
            "joules": energy[name],
            "plan": _plan(made[name]),
        }
    return rows


def _plan(images: Images) -> dict[str, Any] | None:
    """What ours was allowed, predicted to need, and computed again; None for others."""
    plan = images.sampler.plan if isinstance(images, Sampled) else None
    return None if plan is None else {"limit": plan.limit, "peak": plan.peak, "recompute": plan.recompute}


def _rounds(
    workload: Workload, made: Mapping[str, Images], rounds: int, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, float | None]]:
    """Seconds of each rival in each round, and the energy of one of its iterations where the driver tells it.

    Interrupted, it returns the rounds that were complete, if they are enough.
    """
    seconds: dict[str, list[float]] = {name: [] for name in made}
    used: dict[str, list[float]] = {name: [] for name in made}
    try:
        for number in _shown(range(1, rounds + 1), "rounds"):
            for name, images in made.items():
                energy, began = joules(device), time.perf_counter()
                gradient(workload, images, number)
                seconds[name].append(time.perf_counter() - began)
                if energy is not None and (now := joules(device)) is not None:
                    used[name].append(now - energy)
    except KeyboardInterrupt:
        complete = min(map(len, seconds.values()))
        if complete < _LEAST_ROUNDS:
            raise
        seconds = {name: every[:complete] for name, every in seconds.items()}
    return seconds, {name: statistics.mean(every) if every else None for name, every in used.items()}


def compare(
    make: workloads.Make,
    dtype: torch.dtype,
    device: torch.device,
    names: Sequence[str],
    *,
    budgets: Sequence[str] = (),
    rounds: int = 9,
) -> Comparison:
    """Check gradients, and measure each rival whose gradient is right.

    Args:
        make: the workload on a device in a dtype.
        dtype: in which it is measured; gradients are compared in float32.
        device: where.
        names: keys of ``RIVALS``.
        budgets: memory at which ours is measured too, see ``parse_budget``.
        rounds: at least 2; interrupted after as many, their figures are returned.

    Raises:
        KeyboardInterrupt: before that.
        ValueError: too few rounds, or no such budget.
    """
    if rounds < _LEAST_ROUNDS:
        raise wrong_value("rounds", "at least 2, for quantiles", rounds)
    few, rivals = short(make(device, torch.float32)), {name: RIVALS[name] for name in names}
    found = gates(few, {**rivals, **at_budgets(budgets, few, checked=True)})
    del few
    workload = make(device, dtype)
    rivals |= at_budgets(budgets, workload)
    agreeing = {name: rival for name, rival in rivals.items() if "refused" not in found[name]}
    rows = measure(workload, agreeing, rounds, device)
    ceiling, needed = matmul_ceiling(device, dtype), _needed(workload)
    for name, row in rows.items():
        if "median_s" in row:
            same = needed is not None and name not in OTHER_GRADIENT
            row["share_of_ceiling"] = needed / row["median_s"] / ceiling if same else None
    conditions = {
        "steps": workload.setting.steps,
        "guidance_scale": workload.setting.guidance_scale,
        "batch": workload.batch,
        "flop": needed,
        "ceiling_flop_s": ceiling,
        "gpu": driver_state(device),
    }
    return Comparison(conditions, {name: found[name] | rows.get(name, {}) for name in rivals})


def _needed(workload: Workload) -> int | None:
    """FLOP of an iteration; None for models that cannot be run on fake tensors."""
    try:
        return flop(workload)
    except Exception:  # it may be anybody's pipeline
        return None


def verdict(rows: Mapping[str, Mapping[str, Any]], bounds: Mapping[str, float]) -> str | None:
    """Return which rivals were refused and which bounds were missed, None without any.

    Args:
        rows: by rival.
        bounds: how many times faster than a rival ours has to be.
    """
    refused = [name for name, row in rows.items() if "refused" in row]
    missed = [name for name, bound in bounds.items() if not (rows[name].get("times_ours") or 0) >= bound]
    parts = {"refused": refused, "missed": missed}
    return "; ".join(f"{word}: {', '.join(names)}" for word, names in parts.items() if names) or None
