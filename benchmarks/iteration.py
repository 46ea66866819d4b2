"""Time and memory of one optimisation iteration, ours beside every rival: ``python -m benchmarks.iteration``.

Rounds are interleaved (A B C A B C ...), ratios are taken within a round and their median is reported, because absolute
times drift. A rival whose gradient is not the plain one's gets no figures.
"""

import argparse
import datetime
import json
import math
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.rivals import BASELINES, ON_REQUEST, OTHER_GRADIENT, RIVALS, Images, plain
from benchmarks.workloads import WORKLOADS, Workload
from diffexplain_fast.engine.measure import live_bytes
from diffexplain_fast.environment import device_record, versions

RESULTS = Path(__file__).parent / "results"
AGREEMENT = 1e-2
"""Largest relative L2 distance of a float32 gradient to plain autograd's that counts as the same gradient."""
_GATE_STEPS = 2
OURS = "ours, everything kept"
BOUNDS = {"diffusers block checkpointing": 2.0, "plain autograd": 1.3}
"""How many times faster than these ours has to be on the CPU."""


def gradient(workload: Workload, images: Images, number: int) -> Tensor:
    """Return one iteration's gradient with respect to what is optimised, after the device has finished."""
    soft = workload.start.clone().requires_grad_()
    # Not torch.autograd.grad: a rival that leaves its weights unfrozen pays for their gradients too.
    workload.loss(images(workload.embeds(soft), workload.latents(number))).backward()
    if soft.grad is None:
        raise ValueError("the images have no gradient with respect to the prompt")
    if soft.is_cuda:
        torch.cuda.synchronize()
    return soft.grad


def gates(workload: Workload, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return each rival's relative L2 distance to plain autograd's gradient on a few steps, and why it is refused."""
    short = workload.with_steps(_GATE_STEPS)
    truth = gradient(short, plain(short.setting), 0)
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        try:
            distance = float((gradient(short, RIVALS[name](short.setting), 0) - truth).norm() / truth.norm())
        except Exception as problem:  # it may be anybody's code; the row says what it was
            found[name] = {"gradient_distance": None, "refused": _reason(problem)}
            continue
        found[name] = {"gradient_distance": distance if math.isfinite(distance) else None}
        if not math.isfinite(distance) or (distance > AGREEMENT and name not in OTHER_GRADIENT):
            found[name]["refused"] = f"its gradient is {distance:.1e} from plain autograd's"
    return found


def _reason(problem: Exception) -> str:
    return f"{type(problem).__name__}: {str(problem).partition(chr(10))[0]}"


def peak_bytes(run: Callable[[], Any], device: torch.device) -> int:
    """Return the most bytes of tensors alive during a call, weights excluded on the CPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated()
    with live_bytes() as live:
        run()
    return live.peak


def measure(workload: Workload, names: list[str], rounds: int, device: torch.device) -> dict[str, dict[str, Any]]:
    """Return each rival's seconds, peak bytes, and ratios to ours, from interleaved rounds; or why it has none."""
    made: dict[str, Images] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        began = time.perf_counter()
        try:
            images = RIVALS[name](workload.setting)
            gradient(workload, images, 0)
        except Exception as problem:  # such as one that needs more memory than there is
            rows[name] = {"refused": _reason(problem)}
            continue
        made[name], rows[name] = images, {"first_s": time.perf_counter() - began}
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for number in range(1, rounds + 1):
        for name, images in made.items():
            began = time.perf_counter()
            gradient(workload, images, number)
            seconds[name].append(time.perf_counter() - began)
    own = seconds.get(OURS)
    for name, every in seconds.items():
        low, *_, high = statistics.quantiles(every, n=5)
        rows[name] |= {
            "peak_bytes": peak_bytes(partial(gradient, workload, made[name], 0), device),
            "median_s": statistics.median(every),
            "low_s": low,
            "high_s": high,
            "rounds": rounds,
            "times_ours": own and statistics.median(theirs / ours for theirs, ours in zip(every, own, strict=True)),
        }
    return rows


def commit() -> str:
    """Return the commit that is measured, with a mark if files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return (head.stdout.strip() or "unknown") + ("+" if dirty.stdout.strip() else "")


def compare(workload: str, dtype: str, device: torch.device, names: list[str], rounds: int) -> dict[str, Any]:
    """Return a row for each rival: refused, or measured.

    Args:
        workload: key of ``WORKLOADS``.
        dtype: in which it is measured; gradients are compared in float32.
        device: where.
        names: keys of ``RIVALS``.
        rounds: at least 2.
    """
    make = WORKLOADS[workload]
    found = gates(make(device, torch.float32), names)
    agreeing = [name for name in names if "refused" not in found[name]]
    rows = measure(make(device, getattr(torch, dtype)), agreeing, rounds, device)
    return {name: found[name] | rows.get(name, {}) for name in names}


def verdict(rows: dict[str, dict[str, Any]], bounds: dict[str, float]) -> str | None:
    """Return which rivals were refused and which bounds were missed, None without any."""
    refused = [name for name, row in rows.items() if "refused" in row]
    missed = [name for name, bound in bounds.items() if not (rows[name].get("times_ours") or 0) >= bound]
    parts = {"refused": refused, "missed": missed}
    return "; ".join(f"{word}: {', '.join(names)}" for word, names in parts.items() if names) or None


def main(argv: list[str], results: Path = RESULTS) -> None:
    """Check gradients, measure, print a table, append the rows; exit 1 if one is refused or misses a bound of the CPU.

    Args:
        argv: arguments of the command line.
        results: folder of the file that rows are appended to.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.iteration", description=__doc__)
    parser.add_argument("--workload", choices=list(WORKLOADS), default="tinyworld")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2, help="threads of the CPU")
    usual = [name for name in RIVALS if name not in ON_REQUEST]
    parser.add_argument("--rivals", nargs="*", choices=list(RIVALS), default=usual)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    names = list(dict.fromkeys([*arguments.rivals, OURS, *BASELINES]))
    rows = compare(arguments.workload, arguments.dtype, device, names, arguments.rounds)
    about = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "command": shlex.join(["python", "-m", "benchmarks.iteration", *argv]),
        "workload": arguments.workload,
        "dtype": arguments.dtype,
        "device": device_record(),
        "versions": versions(),
    }
    sys.stdout.write(f"{'':36} {'median':>9} {'20-80 %':>17} {'x ours':>7} {'peak MiB':>9} {'gradient':>9}\n")
    with (results / f"iteration-{device.type}.jsonl").open("a", encoding="utf-8") as file:
        for name, row in rows.items():
            file.write(json.dumps(about | {"rival": name} | row, allow_nan=False) + "\n")
            sys.stdout.write(_line(name, row))
    sys.exit(verdict(rows, BOUNDS if device.type == "cpu" else {}))


def _line(name: str, row: dict[str, Any]) -> str:
    if "refused" in row:
        return f"{name:36} refused: {row['refused']}\n"
    times = f"{1e3 * row['median_s']:6.0f} ms {1e3 * row['low_s']:7.0f}-{1e3 * row['high_s']:.0f} ms"
    ratio = "" if row["times_ours"] is None else f"{row['times_ours']:.2f}"
    distance = f"{row['gradient_distance']:9.1e}"
    return f"{name:36} {times:>27} {ratio:>7} {row['peak_bytes'] / 2**20:9.1f} {distance}\n"


if __name__ == "__main__":
    main(sys.argv[1:])
