"""Ours as a share of plain autograd's time, for pytest-benchmark: shares drift less from machine to machine than times.

``tests/benchmarks/test_ratios.py`` measures them on a clock that a share advances, so that pytest-benchmark saves and
compares shares. One thread, by turns, so that it can be done while other processes run.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import torch

from diffexplain_fast.measuring.bench.gate import gradient
from diffexplain_fast.measuring.bench.rivals import OURS, PLAIN, RIVALS
from diffexplain_fast.measuring.bench.workloads import Images, Workload, tinyworld

BASELINE = Path(__file__).parent / "results" / "ratios.json"
"""Written by ``make baseline``, held to by ``make test``."""
NAMES = (OURS, "ours, one sample per step")


def small_workload() -> Workload:
    """Return the tiny world's iteration with two steps, on the CPU."""
    return tinyworld(torch.device("cpu"), torch.float32).with_options(steps=2)


def shares(workload: Workload, name: str) -> Iterator[float]:
    """Yield the time of a rival's iteration over plain autograd's before and after it, without end, on one thread."""
    rival, reference = (RIVALS[each](workload.setting) for each in (name, PLAIN))
    threads, number = torch.get_num_threads(), 0

    def seconds(images: Images) -> float:
        nonlocal number
        number += 1
        torch.set_num_threads(1)
        try:
            began = time.perf_counter()
            gradient(workload, images, number)
            return time.perf_counter() - began
        finally:
            torch.set_num_threads(threads)

    seconds(reference)  # the first of each prepares
    seconds(rival)
    before = seconds(reference)
    while True:
        own, after = seconds(rival), seconds(reference)
        yield 2 * own / (before + after)
        before = after
