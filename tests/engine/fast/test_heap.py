"""Where an iteration's memory comes from: in processes of their own, for a heap remembers what was freed before."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, torch
from diffexplain_fast.engine.fast.heap import keep_heap
class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]
info = ctypes.CDLL(None).mallinfo2
info.restype = Info
if sys.argv[1] == "kept":
    keep_heap()
before = info().hblks
block = torch.empty(2**24, dtype=torch.uint8)
print(info().hblks - before)
"""


def unmapped_after_use(how: str) -> int:
    """How many mappings of its own a tensor of 16 MiB gets, which go back to the system with it."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver() < ("glibc", "2.33"), reason="about glibc's heap, which tells since 2.33")
def test_large_tensors_come_from_the_heap_and_go_back_to_it() -> None:
    assert unmapped_after_use("plain") == 1
    assert unmapped_after_use("kept") == 0
