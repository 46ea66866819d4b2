"""One iteration's time by ours over plain autograd's, which drifts less than times: ``python -m benchmarks.ratios``.

It writes the baseline that ``tests/benchmarks/test_ratios.py`` holds every change to. One thread, and the median over
ratios of neighbours in time, so that it can be measured while other processes run.
"""

import argparse
import datetime
import itertools
import statistics
import sys
import time
from pathlib import Path

import torch

from diffexplain_fast.benchmarking.iteration import gradient
from diffexplain_fast.benchmarking.results import commit
from diffexplain_fast.benchmarking.rivals import OURS, PLAIN, RIVALS
from diffexplain_fast.benchmarking.workloads import Workload, tinyworld
from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.storage import write_json_atomic

BASELINE = Path(__file__).parent / "results" / "ratios.json"
REFERENCE = PLAIN
NAMES = (OURS, "ours, one sample per step")
WORSE = 1.5
"""How many times the baseline's a ratio may be: what a busy machine adds is less, a fast path that is lost more."""
_STEPS = 2
_ROUNDS = 7


def small_workload() -> Workload:
    """Return the tiny world's iteration with few steps, on the CPU."""
    return tinyworld(torch.device("cpu"), torch.float32).with_options(steps=_STEPS)


def ratios(workload: Workload, rounds: int = _ROUNDS) -> dict[str, float]:
    """Return the time of each of ``NAMES`` over the reference's, measured by turns on one thread.

    Args:
        workload: what is measured.
        rounds: ratios of which the median is taken.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {name: _ratio(workload, name, rounds) for name in NAMES}
    finally:
        torch.set_num_threads(threads)


def _ratio(workload: Workload, name: str, rounds: int) -> float:
    rival, reference = (RIVALS[each](workload.setting) for each in (name, REFERENCE))
    seconds = []
    for number, images in enumerate([rival, *[reference, rival] * rounds, reference]):
        began = time.perf_counter()
        gradient(workload, images, number)
        seconds.append(time.perf_counter() - began)
    theirs, references = seconds[2::2], seconds[1::2]  # without the first of all, which prepares
    around = [(before + after) / 2 for before, after in itertools.pairwise(references)]
    return statistics.median(own / other for own, other in zip(theirs, around, strict=True))


def worse(found: dict[str, float], baseline: dict[str, float]) -> list[str]:
    """Return what takes more than ``WORSE`` times the share of the reference's time that it took for the baseline."""
    return [
        f"{name}: {found[name]:.2f} of the time of {REFERENCE}, {ratio:.2f} in the baseline"
        for name, ratio in baseline.items()
        if not found[name] <= WORSE * ratio
    ]


def main() -> None:
    """Measure and write the baseline."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ratios", description=__doc__)
    parser.add_argument("--out", type=Path, default=BASELINE)
    arguments = parser.parse_args()
    found = ratios(small_workload())
    about = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "command": "python -m benchmarks.ratios",
        "device": device_record() | {"threads": 1},
        "versions": versions(),
    }
    write_json_atomic(arguments.out, about | {"reference": REFERENCE, "ratios": found})
    sys.stdout.writelines(f"{name}: {ratio:.3f}\n" for name, ratio in found.items())


if __name__ == "__main__":
    main()
