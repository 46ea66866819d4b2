"""The C library's heap on the CPU, which is not to go back to the system at every iteration."""

import functools

import torch

_LARGEST = 2**25 - 2**16
"""Bytes just below 32 MiB, up to which glibc learns from a freed block."""


@functools.cache
def keep_heap() -> None:
    """Let an iteration use the memory that the last one freed, instead of faulting it in again page by page.

    glibc gives free memory at the end of its heap back as soon as there is twice as much of it as the largest block
    that was ever unmapped, at most 32 MiB. A program whose largest tensor has 1 MiB pays for that all the time; a
    program that has once freed a larger tensor does not. So a large tensor is allocated and freed here: nothing is
    written to it, no option is set, and other C libraries are not affected.

    Source: mallopt(3), M_MMAP_THRESHOLD, on the dynamic threshold.
    """
    torch.empty(_LARGEST, dtype=torch.uint8, device="cpu")
