"""Page faults of an iteration's memory: in processes of their own, for a heap remembers what was freed before."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from diffexplain_fast.engine.fast.heap import keep_heap
if sys.argv[1] == "kept":
    keep_heap()
def iteration():
    tensors = [torch.ones(2**17) for _ in range(40)]  # 512 KiB each
    del tensors
for _ in range(3):
    iteration()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    iteration()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's heap")
def test_memory_that_an_iteration_freed_serves_the_next() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    before, kept = faults("plain"), faults("kept")
    assert before >= 10_000 and kept <= before / 100
