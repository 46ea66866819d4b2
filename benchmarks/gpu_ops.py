"""Every op on a GPU beside eager PyTorch, ``torch.compile`` and libraries: ``python -m benchmarks.gpu_ops``.

Each measurement is the replay of one CUDA graph with a call for each of several inputs, together larger than the
caches: the time of the kernels, without the host's. All forwards come first, then all backwards, so that neither finds
what the other has just read; backward is the time of both less that of the forwards. The share is that of the ceilings:
the bytes and FLOP that the op needs at least, at the rates of a large copy and a large product on the same card. An
implementation whose result or gradient is not eager's to the dtype's rounding gets no figures. The bars: three quarters
of the ceiling for an op that waits for memory, faster than every library for attention.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.op_cases import SHAPES, Case, Function, New, cases, distance, gradients, mean_seconds, results
from diffexplain_fast import ops
from diffexplain_fast.engine.graphs.recorder import CudaRecorder
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.measuring.profile.roofline import Ceilings, measure_ceilings
from diffexplain_fast.storage import write_json_atomic

RESULT = Path(__file__).parent / "results" / "gpu-ops.json"
_AGREEMENT = {torch.bfloat16: 3e-2, torch.float16: 4e-3, torch.float32: 1e-3}  # largest relative L2 distance
_RING = 2**28  # bytes of inputs that one graph reads: more than any card's cache holds
_MOST = 64  # inputs of one graph at most
_WARM, _REPLAYS, _SHARE = 3, 9, 0.75
# Neither a kernel of ours nor a library called as its users do.
_NEITHER = ("compiled", "ours, cudnn", "ours, sdpa", "ours, xformers")
_ROW = "{op:17}{shape:14}{impl:11}{forward:>9}{backward:>9} us {share}\n"


def measure(case: Case, ceilings: Ceilings, compiled: bool = False, ring: int = _RING) -> Iterator[dict[str, Any]]:
    """Yield a row for eager, for each other library and for each implementation, or one for eager's code ``compiled``.

    Each has microseconds forward and backward, distance of result and gradient, shares of the ceilings; or a reason.
    """
    first = case.inputs()
    count = min(_MOST, max(1, ring // sum(part.nbytes for part in first)))
    sets = [[part.requires_grad_() for part in (case.inputs() if i else first)] for i in range(count)]
    outputs = tuple(part.detach() for part in results(case.eager(*first)))
    cotangents = [tuple(torch.randn_like(part) for part in outputs) for _ in sets]
    truth = (*outputs, *gradients(case.eager, cotangents[0])(*first))
    functions = {"eager": case.eager, **case.others, **implementations(case)}
    if compiled:
        torch._dynamo.reset()
        functions = {"compiled": torch.compile(case.eager, dynamic=False)}
    for name, function in functions.items():
        row: dict[str, Any] = {"op": case.op, "shape": case.label, "impl": name}
        try:
            made = *(part.detach() for part in results(function(*first))), *gradients(function, cotangents[0])(*first)
            row["distance"] = distance(made, truth)
            if row["distance"] <= max(_AGREEMENT[part.dtype] for part in first):
                forward, total = seconds(function, sets), seconds(function, sets, cotangents)
                row |= _figures(case, ceilings, first[-1].element_size(), forward, total - forward)
            else:
                row["refused"] = "another result or gradient than eager PyTorch"
        except Exception as error:  # a library's own, too: it costs its own row only
            row["refused"] = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        yield row


def implementations(case: Case) -> dict[str, Function]:
    """Return our implementations of a case's op by their names in the table."""
    chosen = {impl: case.ours if impl == "torch" else partial(case.ours, impl=impl) for impl in case.impls}
    return {f"ours, {impl}": function for impl, function in chosen.items()}


def run_once(new: New) -> None:
    """Run our implementations that run here once, forward and backward, at small shapes: for sanitizers."""
    for case in (*cases(new, SHAPES["small"]), _whole_group_norm_silu(new)):
        inputs = [part.requires_grad_() for part in case.inputs()]
        cotangents = tuple(torch.randn_like(part) for part in results(case.eager(*inputs)))
        for name, function in implementations(case).items():
            said: object = name
            try:
                gradients(function, cotangents)(*inputs)
            except ValueError as refused:  # an implementation that is not there; any other error shows
                said = refused
            sys.stdout.write(f"{case.op} {case.label}: {said}\n")


def _whole_group_norm_silu(new: New) -> Case:
    """Return GroupNorm of two parts with a shift, which the table's cases leave out."""
    (case,) = cases(new, {"group_norm_silu": [(2, 24, 9, 7, 4)]})
    weight, bias = new(40), new(40)

    def ours(x: Tensor, skip: Tensor, shift: Tensor, impl: str = "reference") -> Tensor:
        return ops.group_norm_silu(x, weight, bias, 4, skip=skip, shift=shift, impl=impl)

    return case._replace(inputs=lambda: [new(2, 24, 9, 7), new(2, 16, 9, 7), new(2, 40)], ours=ours, eager=ours)


def _figures(case: Case, ceilings: Ceilings, size: int, forward: float, backward: float) -> dict[str, Any]:
    figures: dict[str, Any] = {"forward_us": round(1e6 * forward, 2), "backward_us": round(1e6 * backward, 2)}
    figures |= {"tb_s": [], "tflop_s": [], "share": []}
    for numbers, flop, took in zip(case.moved, case.flop, (forward, backward), strict=True):
        took = max(took, 1e-9)  # a difference of two medians
        least = max(numbers * size / ceilings.byte_rate, flop / ceilings.flop_rate)
        figures["tb_s"].append(round(numbers * size / took / 1e12, 3))
        figures["tflop_s"].append(round(flop / took / 1e12, 1))
        figures["share"].append(round(least / took, 3))
    return figures


def asked(table: str) -> list[tuple[str, str]]:
    """Return op and shape of each place in a table of bars, as the rows name them."""
    return [(op, "x".join(map(str, shape))) for op, shapes in SHAPES[table].items() for shape in shapes]


def bars(rows: Sequence[dict[str, Any]]) -> dict[str, bool]:
    """Return each bar, with the figure that was measured, and whether it is met; none for what was not measured."""
    verdicts = {}
    timed = [row for row in rows if "refused" not in row]
    for op, shape in asked("wait_for_memory"):
        here = [row for row in timed if (row["op"], row["shape"]) == (op, shape)]
        if shares := [min(row["share"]) for row in here if row["impl"].startswith("ours")]:
            verdicts[f"{op} {shape}: {max(shares):.0%} of the ceiling (bar {_SHARE:.0%})"] = max(shares) >= _SHARE
    for op, shape in asked("faster_than_libraries"):
        here = [row for row in timed if (row["op"], row["shape"]) == (op, shape) and row["impl"] not in _NEITHER]
        own, others = (
            [row["forward_us"] + row["backward_us"] for row in here if (row["impl"] == "ours, triton") == is_own]
            for is_own in (True, False)
        )
        if own and others:
            said = f"{op} {shape}: {min(own):.0f} us, the best library {min(others):.0f}"
            verdicts[said] = min(own) < min(others)
    return verdicts


def seconds(function: Function, sets: list[list[Tensor]], cotangents: Sequence[Sequence[Tensor]] = ()) -> float:
    """Return the median seconds of a call, over calls with each set of inputs; on a GPU in one CUDA graph.

    With cotangents of each set's results the backwards follow, after all forwards.
    """
    device = sets[0][0].device

    def calls(count: int) -> list[Any]:
        # Results live to the end, so that each call writes elsewhere.
        made = [function(*inputs) for inputs in sets[:count]]
        if not cotangents:
            return made
        pairs = zip(made, sets, cotangents, strict=False)
        return [torch.autograd.grad(results(y), inputs, dy) for y, inputs, dy in pairs]

    if device.type != "cuda":
        return mean_seconds(lambda: calls(len(sets)), 1) / len(sets)
    recorder = CudaRecorder(device)
    for _ in range(_WARM):
        recorder.warm(lambda: calls(1))
    replay, kept = recorder.record(lambda: calls(len(sets)))
    replay()
    return statistics.median(_replay_seconds(replay) for _ in range(_REPLAYS)) / len(kept)


def _replay_seconds(replay: Callable[[], object]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    replay()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def main() -> None:
    """Measure every case, print a table, write the JSON; compiled code comes last, at one shape of each op."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_ops", description=__doc__)
    parser.add_argument("--dtype", choices=["bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: small shapes, as a rehearsal")
    parser.add_argument("--once", action="store_true", help="only run each op once, at small shapes: for sanitizers")
    arguments = parser.parse_args()
    dtype, device = getattr(torch, arguments.dtype), torch.device(arguments.device)
    new = New(device, dtype)
    if arguments.once:
        return run_once(new)
    ceilings, rows = measure_ceilings(device, dtype), []
    sys.stdout.write(f"copy {ceilings.byte_rate / 1e12:.2f} TB/s, product {ceilings.flop_rate / 1e12:.0f} TFLOP/s\n")
    sys.stdout.write(_ROW.format(op="", shape="", impl="", forward="forward", backward="backward", share="of ceilings"))
    record = {"dtype": arguments.dtype, "ceilings": vars(ceilings), "device": device_record(), "versions": versions()}
    ways = {False: SHAPES["small"]}
    if device.type == "cuda":
        ways = {False: SHAPES["gpu"], True: {op: shapes[:1] for op, shapes in SHAPES["gpu"].items()}}
    for compiled, shapes in ways.items():
        for case in cases(new, shapes):
            for row in measure(case, ceilings, compiled):
                rows.append(row)
                _print(row)
                write_json_atomic(arguments.out, record | {"rows": rows, "bars": bars(rows)})
        for said, met in ({} if compiled else bars(rows)).items():
            sys.stdout.write(f"{'met' if met else 'MISSED'}: {said}\n")


def _print(row: dict[str, Any]) -> None:
    if "refused" in row:
        sys.stdout.write("{op:17}{shape:14}{impl:11} refused: {refused}\n".format(**row))
    else:
        share = " / ".join(f"{share:.0%}" for share in row["share"])
        times = {way: f"{row[f'{way}_us']:.1f}" for way in ("forward", "backward")}
        sys.stdout.write(_ROW.format(**row | times | {"share": share}))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
