"""Time candidate configurations of the Triton kernels on the card that is here: ``python -m benchmarks.tune``.

Every candidate is compiled first, by threads; then each runs alone, as a CUDA graph of one launch, at the shapes of
Stable Diffusion 1.5. A row has the median microseconds with everything in memory ("cold") and with whatever the launch
before left in the cache ("warm"). Rows are written after every kernel, so the program may be killed at any time.
``--dry`` needs no card: it compiles for compute capability 9.0 and times nothing.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from diffexplain_fast.kernels import configs
from diffexplain_fast.kernels.precompile import kind
from triton.backends.compiler import GPUTarget

from benchmarks.tune.candidates import CASES, Candidate, Case
from benchmarks.tune.kinds import taken
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.storage import write_json_atomic

RESULT = Path(__file__).parents[1] / "results" / "tune.json"
_FLUSH = 2**28  # bytes written before a cold run: more than any card's cache holds
_RUNS, _WARM_RUNS, _BUSY = 15, 7, 6


class Job(NamedTuple):
    """One launch of one candidate."""

    case: Case
    candidate: Candidate
    kernel: Any  # ``@triton.jit`` function
    grid: Callable[[Any], tuple[int, ...]]
    arguments: dict[str, Any]  # with block sizes and options

    def key(self) -> tuple[Any, ...]:
        """Everything that machine code follows from."""
        return kind(self.kernel, self.arguments)

    def compile(self) -> None:
        """Compile the kernel, as a launch would, into Triton's cache."""
        self.kernel.warmup(**self.arguments, grid=(1,))

    def launch(self) -> None:
        """Launch the kernel on the current stream."""
        self.kernel[self.grid](**self.arguments)


@contextmanager
def _tried(case: Case, candidate: Candidate) -> Iterator[list[Job]]:
    """Make launches follow from a candidate, and note those of the case's kernels as jobs instead of running them."""
    jobs: list[Job] = []

    def note(name: str, kernel: Any, grid: Any, key: Any, arguments: dict[str, Any]) -> None:
        if kernel.__name__ in case.kernels:
            blocks, warps, stages = configs.CONFIGS[name][0]
            options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": candidate.fusion}
            jobs.append(Job(case, candidate, kernel, grid, {**arguments, **blocks, **options}))

    table, constants = configs.CONFIGS[case.entry], {name: getattr(case.module, name) for name in candidate.constants}
    try:
        configs.CONFIGS[case.entry] = [candidate.config]
        for name, value in candidate.constants.items():
            setattr(case.module, name, value)
        with taken(note):
            yield jobs
    finally:
        configs.CONFIGS[case.entry] = table
        for name, value in constants.items():
            setattr(case.module, name, value)


def jobs_of(case: Case, device: torch.device) -> list[Job]:
    """Return a job for each launch of the case's kernel, and of its followers, with each candidate."""
    call, jobs = case.call(device), []
    for candidate in case.candidates:
        with _tried(case, candidate) as noted:
            call()
        jobs += noted
    return jobs


def compile_all(jobs: Sequence[Job], seconds: float) -> dict[tuple[Any, ...], str]:
    """Compile every kind of job by threads within a time; return what became of each: nothing is a success."""
    pool, futures = ThreadPoolExecutor(os.cpu_count()), dict[tuple[Any, ...], Future[None]]()
    for job in jobs:
        if (key := job.key()) not in futures:
            futures[key] = pool.submit(job.compile)
    wait(futures.values(), timeout=seconds)
    pool.shutdown(wait=False, cancel_futures=True)
    return {key: _outcome(future) for key, future in futures.items()}


def _outcome(future: Future[None]) -> str:
    if future.cancelled() or not future.done():
        return "no time left to compile"
    error = future.exception()
    return "" if error is None else _said(error)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


class Timer:
    """Times launches on a card."""

    def __init__(self, device: torch.device) -> None:
        self._flush = torch.empty(_FLUSH, dtype=torch.int8, device=device)
        self._stream = torch.cuda.Stream(device)

    def __call__(self, launch: Callable[[], None]) -> tuple[float, float]:
        """Return the median microseconds of a launch, cold and warm."""
        with torch.cuda.stream(self._stream):
            launch()
            self._stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            graph.capture_begin(capture_error_mode="thread_local")
            launch()
            graph.capture_end()
            graph.replay()
            cold = self._median(graph, _RUNS, flush=True)
            return cold, self._median(graph, _WARM_RUNS, flush=False)

    def _median(self, graph: torch.cuda.CUDAGraph, runs: int, flush: bool) -> float:
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(runs)]
        for _ in range(_BUSY):  # the card is busy while the runs are queued
            self._flush.zero_()
        for begin, end in pairs:
            if flush:
                self._flush.zero_()
            begin.record()
            graph.replay()
            end.record()
        self._stream.synchronize()
        return 1e3 * statistics.median(begin.elapsed_time(end) for begin, end in pairs)


def row_of(job: Job, failure: str, timer: Timer | None) -> dict[str, Any]:
    """Return the row of a job: its configuration, and its times or the reason why there are none."""
    case, (config, fusion, constants) = job.case, job.candidate
    row = {"entry": case.entry, "kernel": job.kernel.__name__, "shape": case.label, "blocks": dict(config.blocks)}
    row |= {"warps": config.num_warps, "stages": config.num_stages, "fusion": fusion, "constants": dict(constants)}
    if not failure and timer is not None:
        try:
            row["cold_us"], row["warm_us"] = (round(each, 2) for each in timer(job.launch))
        except Exception as error:  # such as too much shared memory: it costs its own row only
            failure = _said(error)
    return row | ({"failed": failure} if failure else {})


class _Card:
    """A card that is not here, for compilers."""

    get_current_target = staticmethod(lambda: GPUTarget("cuda", 90, 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device=0: 0)


def main() -> None:
    """Compile, time, write the rows, and print the best of each kernel beside what it has today."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tune", description=__doc__)
    parser.add_argument("--dry", action="store_true", help="compile for compute capability 9.0 only; no card is needed")
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--compile-seconds", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=30.0, help="for the timing")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    if triton.knobs.runtime.interpret:
        parser.error("TRITON_INTERPRET is set: the interpreter's kernels cannot be compiled")
    device, began = torch.device("cpu" if arguments.dry else "cuda"), time.monotonic()
    if arguments.dry:
        triton.runtime.driver.set_active(_Card())
    cases = [case for name in arguments.only for case in CASES[name]]
    by_case = [jobs_of(case, device) for case in cases]
    failures = compile_all([job for jobs in by_case for job in jobs], arguments.compile_seconds)
    failed = sum(map(bool, failures.values()))
    sys.stdout.write(f"{len(failures)} kinds, {failed} not compiled, after {time.monotonic() - began:.0f} s\n")
    timer, rows = None if arguments.dry else Timer(device), []
    record = {"device": device_record(), "versions": versions()}
    end = time.monotonic() + arguments.seconds
    for case, jobs in zip(cases, by_case, strict=True):
        made = [row_of(job, failures[job.key()], timer) for job in jobs if time.monotonic() < end]
        rows += made
        write_json_atomic(arguments.out, record | {"rows": rows})
        _print_best(case, made)
    sys.stdout.write(f"{len(rows)} rows after {time.monotonic() - began:.0f} s: {arguments.out}\n")
    sys.stdout.flush()
    os._exit(1 if arguments.dry and failed else 0)  # threads that still compile would hold the program up


def _print_best(case: Case, rows: Sequence[dict[str, Any]]) -> None:
    for name in case.kernels:
        mine = [row for row in rows if row["kernel"] == name]
        timed = sorted((row for row in mine if "cold_us" in row), key=lambda row: float(row["cold_us"]))
        said = f"{len(timed)} of {len(mine)} timed"
        for row in [*timed[:3], *[row for row in timed if row is mine[0]]]:
            blocks = " ".join(
                f"{key.removeprefix('BLOCK_')}{value}" for key, value in {**row["blocks"], **row["constants"]}.items()
            )
            said += f"\n    {row['cold_us']:8.1f} {row['warm_us']:8.1f} us  {blocks} warps{row['warps']}"
            said += f" stages{row['stages']}{' fused' if row['fusion'] else ''}"
        sys.stdout.write(f"{name} {case.label}: {said}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
