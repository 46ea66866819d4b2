"""Time and memory of one optimisation iteration, ours beside every rival: ``python -m benchmarks.iteration``.

Rounds are interleaved (A B C A B C ...), ratios are taken within a round and their median is reported, because absolute
times drift. A rival whose gradient is not the plain one's gets no figures.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.rivals import BASELINES, OTHER_GRADIENT, RIVALS
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


def gradient(workload: Workload, images: Callable[[Tensor, Tensor], Tensor], number: int) -> Tensor:
    """Return one iteration's gradient with respect to what is optimised, after the device has finished."""
    soft = workload.start.clone().requires_grad_()
    loss = workload.loss(images(workload.embeds(soft), workload.latents(number)))
    (found,) = torch.autograd.grad(loss, soft)
    if found.is_cuda:
        torch.cuda.synchronize()
    return found


def agreements(workload: Workload, names: list[str]) -> dict[str, float]:
    """Return each rival's relative L2 distance to plain autograd's gradient, on a few steps."""
    short = workload.with_steps(_GATE_STEPS)
    truth = gradient(short, RIVALS["plain autograd"](short.setting), 0)
    return {
        name: float((gradient(short, RIVALS[name](short.setting), 0) - truth).norm() / truth.norm()) for name in names
    }


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
    """Return each rival's seconds, peak bytes, and ratios to ours, from interleaved rounds."""
    made = {name: RIVALS[name](workload.setting) for name in names}
    rows: dict[str, dict[str, Any]] = {}
    for name, images in made.items():
        began = time.perf_counter()
        gradient(workload, images, 0)
        first = time.perf_counter() - began
        rows[name] = {"first_s": first, "seconds": [], "peak_bytes": 0}
    for number in range(1, rounds + 1):
        for name, images in made.items():
            began = time.perf_counter()
            gradient(workload, images, number)
            rows[name]["seconds"].append(time.perf_counter() - began)
    for name, images in made.items():
        rows[name]["peak_bytes"] = peak_bytes(lambda images=images: gradient(workload, images, 0), device)
    own = rows[OURS]["seconds"]
    for row in rows.values():
        every = row.pop("seconds")
        low, high = statistics.quantiles(every, n=5)[0], statistics.quantiles(every, n=5)[3]
        row |= {"median_s": statistics.median(every), "low_s": low, "high_s": high, "rounds": rounds}
        row["times_ours"] = statistics.median(theirs / ours for theirs, ours in zip(every, own, strict=True))
    return rows


def commit() -> str:
    """Return the commit that is measured, with a mark if files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return (head.stdout.strip() or "unknown") + ("+" if dirty.stdout.strip() else "")


def main() -> None:
    """Check gradients, measure, print a table, append the rows; exit 1 when a bound is missed on the CPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.iteration", description=__doc__)
    parser.add_argument("--workload", choices=list(WORKLOADS), default="tinyworld")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2, help="threads of the CPU")
    parser.add_argument("--rivals", nargs="*", choices=list(RIVALS), default=list(RIVALS))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    names = list(dict.fromkeys([*arguments.rivals, OURS, *BASELINES]))
    found = agreements(WORKLOADS[arguments.workload](device, torch.float32), names)
    refused = [name for name in names if not found[name] <= AGREEMENT and name not in OTHER_GRADIENT]
    workload = WORKLOADS[arguments.workload](device, getattr(torch, arguments.dtype))
    rows = measure(workload, [name for name in names if name not in refused], arguments.rounds, device)
    about = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "command": f"python -m benchmarks.iteration --workload {arguments.workload} --dtype {arguments.dtype}",
        "workload": arguments.workload,
        "dtype": arguments.dtype,
        "device": device_record(),
        "versions": versions(),
    }
    path = RESULTS / f"iteration-{device.type}.jsonl"
    sys.stdout.write(f"{'':32} {'median':>9} {'20-80 %':>17} {'x ours':>7} {'peak MiB':>9} {'gradient':>9}\n")
    with path.open("a", encoding="utf-8") as file:
        for name in names:
            row = rows.get(name, {"refused": "another gradient than plain autograd"})
            file.write(json.dumps(about | {"rival": name, "gradient_distance": found[name]} | row) + "\n")
            sys.stdout.write(_line(name, row, found[name]))
    missed = [name for name, bound in BOUNDS.items() if device.type == "cpu" and rows[name]["times_ours"] < bound]
    sys.exit(f"missed: {', '.join(missed)}" if missed or refused else 0)


def _line(name: str, row: dict[str, Any], distance: float) -> str:
    if "refused" in row:
        return f"{name:32} refused: {row['refused']} ({distance:.1e})\n"
    times = f"{1e3 * row['median_s']:6.0f} ms {1e3 * row['low_s']:7.0f}-{1e3 * row['high_s']:.0f} ms"
    return f"{name:32} {times:>27} {row['times_ours']:7.2f} {row['peak_bytes'] / 2**20:9.1f} {distance:9.1e}\n"


if __name__ == "__main__":
    main()
