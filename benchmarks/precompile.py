"""Compile the Triton kernels of an iteration before anything is timed: ``python -m benchmarks.precompile``.

One step runs with launches that note what is asked for and run nothing, so its numbers mean nothing; threads then
compile each kind once, for the card that is there, into Triton's cache. A first call would compile its kernels by
itself; this is forbidden while kinds are noted, so that both times are what they say. Which configuration is fastest is
found later, while nothing else keeps the card busy.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from diffexplain_fast.kernels.configs import choices
from diffexplain_fast.kernels.precompile import Compiler, Kind, kind

from benchmarks.tune.kinds import taken
from diffexplain_fast.environment import default_device, processors
from diffexplain_fast.measuring.bench.gate import gradient
from diffexplain_fast.measuring.bench.rivals import ours, ours_lean
from diffexplain_fast.measuring.bench.workloads import WORKLOADS
from diffexplain_fast.ops._impl import triton_failure

_FIRST_CALLS = "DIFFEXPLAIN_FAST_PRECOMPILE"


@contextmanager
def noting() -> Iterator[set[Kind]]:
    """Note every kind of launch while the context is open; launch nothing, and let no first call compile."""
    kinds: set[Kind] = set()

    def note(name: str, kernel: Any, grid: Any, key: Any, arguments: dict[str, Any]) -> None:
        kinds.update(kind(kernel, {**arguments, **options}) for options in choices(name))

    with patch.dict(os.environ, {_FIRST_CALLS: "0"}), taken(note):
        yield kinds


def main() -> None:
    """Compile the kernels of the checks of gradients and of the measured iteration, and say how many and how long."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precompile", description=__doc__)
    parser.add_argument("--workload", choices=WORKLOADS, default="sd15")
    parser.add_argument("--dtype", choices=["bfloat16", "float16"], default="bfloat16")
    arguments = parser.parse_args()
    device, began = default_device(), time.monotonic()
    # Asked before: the kernel that "auto" tries would be noted and not run, and all ops would turn to something else.
    if device.type == "cuda" and (failure := triton_failure(device.type)):
        parser.exit(1, f"{failure}\n")
    with noting() as kinds:
        for dtype in (getattr(torch, arguments.dtype), torch.float32):
            workload = WORKLOADS[arguments.workload](device, dtype).with_options(steps=1)
            for make in (ours, ours_lean):
                gradient(workload, make(workload.setting), 0)
    if device.type == "cuda" and not kinds:
        parser.exit(1, "no kernel was launched: is the package installed with them?\n")
    sys.stdout.write(f"{len(kinds)} kinds of launch after {time.monotonic() - began:.0f} s\n")
    place = partial(torch.cuda.device, device) if device.type == "cuda" else nullcontext
    for problem in Compiler().compile(kinds, processors(), place):
        raise problem
    sys.stdout.write(f"compiled after {time.monotonic() - began:.0f} s in all\n")


if __name__ == "__main__":
    main()
