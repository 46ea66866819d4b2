"""Issue slots for each cycle of the tensor cores in the inner loops of attention, from code compiled for sm_90.

``python -m benchmarks.tune.issue_slots`` needs no GPU. A scheduler of a multiprocessor issues one instruction of one
warp in a cycle, and the four schedulers share the tensor cores evenly. So with I instructions in a loop, and N columns
in each of its wgmma.m64nNk16, whose 64 * N * 16 multiply-adds take N / 2 cycles at 2048 in a cycle, a warp group needs
I issue slots of each scheduler in the time in which its tensor work takes sum(N / 2) cycles. Above 1, a loop is bound
by its instructions, whatever the memory does.
"""

import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import triton
from triton.backends.compiler import GPUTarget

from benchmarks.aot import source
from benchmarks.aot_cases import OPS, Case

_INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+([^;]+);")
_BRANCH = re.compile(r"\bBRA\b.*?0x([0-9a-f]+)")
_TENSOR = re.compile(r"\bHGMMA\.64x(\d+)x16\.")


class Loop(NamedTuple):
    """A loop that uses tensor cores, with no other such loop inside."""

    instructions: int  # of one warp, in one round
    tensor_cycles: float  # of one warp group, in one round

    @property
    def slots(self) -> float:
        """Issue slots for each cycle of the tensor cores."""
        return self.instructions / self.tensor_cycles


def loops_of(listing: str) -> list[Loop]:
    """Return the innermost loops of a listing of machine code by ``cuobjdump -sass`` that use tensor cores."""
    code = [(int(place, 16), text.strip()) for place, text in _INSTRUCTION.findall(listing)]
    found: list[tuple[int, int, Loop]] = []
    for last, text in code:
        branch = _BRANCH.search(text)
        first = int(branch[1], 16) if branch else last
        if first >= last or any(first <= start and end <= last for start, end, _ in found):
            continue  # not backwards, or around a loop that ends before
        body = [each for place, each in code if first <= place <= last]
        cycles = sum(int(columns) / 2 for each in body for columns in _TENSOR.findall(each))
        if cycles:
            found.append((first, last, Loop(len(body), cycles)))
    return [loop for *_, loop in found]


def listing_of(case: Case) -> str:
    """Return the machine code of a case for sm_90."""
    read, options = source(case)
    made = triton.compile(read, target=GPUTarget("cuda", 90, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-sass", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def cases(start: str) -> Iterator[Case]:
    """Yield attention's cases whose names begin so."""
    return (case for case in OPS["attention"]() if case.name.startswith(start))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", nargs="?", default="attention_fwd_kernel bf16", help="first part of cases' names")
    for case in cases(parser.parse_args().start):
        for loop in loops_of(listing_of(case)):
            detail = f"{loop.instructions} instructions, {loop.tensor_cycles:g} tensor cycles"
            print(f"{case.name}: {loop.slots:.2f} issue slots a tensor cycle ({detail})")
