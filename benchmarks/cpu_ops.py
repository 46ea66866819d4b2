"""The C++ kernels beside eager PyTorch, forward and backward: ``python -m benchmarks.cpu_ops`` on a quiet machine.

Eager is what one would write: torch functions on frozen weights, channels-last, with autograd. Both are run by turns,
A B A B, and judged by the median of the ratios of neighbours, at shapes of the tiny world and of Stable Diffusion 1.5.
The raw functions, which the fast engine calls without autograd, are measured beside them and not judged. Of the norms
there is also the time of moving their bytes, by torch's copy (forward) and sum (backward): the most that can be gained.
Of autograd there is the time of an empty ``autograd.Function``, which every op pays in Python. Freed memory stays in
the process, as in the engine. Writes results/cpu-ops.json; returns 1 if an op is below 2 at one of its shapes.
"""

import argparse
import functools
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.op_cases import SHAPES, Case, Function, New, cases, distance, gradients, mean_seconds, results
from diffexplain_fast.engine.fast.heap import keep_heap
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.storage import write_json_atomic

RESULT = Path(__file__).parent / "results" / "cpu-ops.json"
BOUND = 2.0
_SLICE = 0.004  # seconds of one measurement: long beside the clock's step, short beside other processes' turns
_AGREEMENT = 1e-5  # largest relative distance between two correct gradients in float32
_NORMS = ("group_norm_silu", "layer_norm")
_COLUMNS = {"eager_us": "eager us", "ours_us": "ours us", "ratio": "ratio", "raw_us": "raw us", "raw_ratio": "ratio"}
_COLUMNS |= {"bytes_us": "bytes us", "most": "most"}
_ROW = "{op:16} {shape:28} {eager_us:9} {ours_us:9} {ratio:6} {raw_us:9} {raw_ratio:6} {bytes_us:9} {most:6}\n"


def measure(case: Case, pairs: int) -> dict[str, Any]:
    """Return the microseconds of both and the median of the ratios of so many pairs of measurements, by turns."""
    inputs = [x.requires_grad_() for x in case.inputs()]
    cotangents = [torch.randn_like(y) for y in results(case.eager(*inputs))]
    eager = gradients(case.eager, cotangents)
    ours = gradients(functools.partial(case.ours, impl="cpp"), cotangents)
    if not (found := distance(ours(*inputs), eager(*inputs))) <= _AGREEMENT:
        raise ValueError(f"{case.op} {case.shape}: the gradient is {found:.1e} from eager's")
    raw: Function = torch.no_grad()(lambda: case.raw and case.raw(*cotangents, *inputs))
    # A norm reads one tensor and writes one, then reads two and writes one; other ops move other bytes.
    move: Function = torch.no_grad()(lambda: (inputs[0].clone(), cotangents[0] + inputs[0]))
    runs: dict[str, Function] = {"eager": lambda: eager(*inputs), "ours": lambda: ours(*inputs), "raw": raw}
    runs |= {"bytes": move} if case.op in _NORMS else {}
    # Eager decides how often, so that the measurements of a turn are near each other in time.
    repeats = max(1, round(_SLICE / max(mean_seconds(runs["eager"], 3), 1e-6)))
    turns = [{name: mean_seconds(run, repeats) for name, run in runs.items()} for _ in range(pairs + 1)][1:]
    us = {name: round(1e6 * statistics.median(turn[name] for turn in turns), 1) for name in runs}
    ratio = {name: round(statistics.median(turn["eager"] / turn[name] for turn in turns), 2) for name in runs}
    figures = {"eager_us": us["eager"], "ours_us": us["ours"], "ratio": ratio["ours"], "raw_us": us["raw"]}
    figures |= {"raw_ratio": ratio["raw"], "bytes_us": us.get("bytes"), "most": ratio.get("bytes")}
    shape = ", ".join(filter(None, [str(list(case.shape)), case.detail]))
    return {"op": case.op, "shape": shape, **figures}


class _Nothing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        return cotangents[0]


def empty_function(pairs: int) -> float:
    """Return the microseconds of an ``autograd.Function`` that computes nothing, forward and backward."""
    x, dy = torch.ones(1).requires_grad_(), torch.ones(1)
    turns = [mean_seconds(lambda: torch.autograd.grad(_Nothing.apply(x), x, dy), 100) for _ in range(pairs)]
    return round(1e6 * statistics.median(turns), 1)


def main() -> int:
    """Measure every case, print the table, write the JSON; return 1 when an op misses the bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--op", action="append", help="only this op, for a look while working")
    parser.add_argument("--pairs", type=int, default=51, help="measurements of each, by turns")
    arguments = parser.parse_args()
    if arguments.op and arguments.output == RESULT:
        parser.error("--op leaves cases out: give it another --output than the committed table")
    torch.set_num_threads(2)
    torch.manual_seed(0)
    keep_heap()
    before, rows = os.getloadavg()[0], []
    sys.stdout.write(_ROW.format(op="op", shape="shape", **_COLUMNS))
    chosen = {op: shapes for op, shapes in SHAPES["cpu"].items() if not arguments.op or op in arguments.op}
    for case in cases(New(torch.device("cpu"), torch.float32), chosen):
        rows.append(measure(case, arguments.pairs))
        sys.stdout.write(_ROW.format(**{key: "" if cell is None else cell for key, cell in rows[-1].items()}))
    least, raw_least = (
        {op: min(row[ratio] for row in rows if row["op"] == op) for op in chosen} for ratio in ("ratio", "raw_ratio")
    )
    what = "forward and backward, float32; eager and C++ by turns; ratio is the median over pairs of eager / ours"
    record = {"command": "python -m benchmarks.cpu_ops", "what": what, "pairs": arguments.pairs}
    record |= {"load_before": round(before, 2), "device": device_record(), "versions": versions()}
    record |= {"empty_function_us": (empty := empty_function(arguments.pairs)), "cases": rows}
    write_json_atomic(arguments.output, record | {"least": least, "raw_least": raw_least, "bound": BOUND})
    sys.stdout.write(f"an empty autograd.Function: {empty} us\n")
    for op, ratio in least.items():
        sys.stdout.write(f"{op}: at least {ratio}, only the kernels {raw_least[op]} (bound {BOUND})\n")
    return 1 if min(least.values()) < BOUND else 0


if __name__ == "__main__":
    sys.exit(main())
