"""The C library's heap on the CPU, kept from going back to the system at every iteration."""

import functools

import torch

_LARGEST = 2**25 - 2**16
"""Bytes just below 32 MiB, up to which glibc learns from a freed block."""


@functools.cache
def keep_heap() -> None:
    """Let what an iteration frees serve the next one, instead of being unmapped and faulted in again page by page.

    glibc gives free memory at the end of its heap back as soon as there is twice as much of it as the largest block
    that was ever unmapped, at most 32 MiB. A program whose largest tensor has 1 MiB pays for that all the time; one
    that has once freed a larger one does not. So one is made and freed, untouched: nothing is written, no option is
    set, and other C libraries do not notice.

    Source: mallopt(3), M_MMAP_THRESHOLD, on the dynamic threshold.
    """
    torch.empty(_LARGEST, dtype=torch.uint8, device="cpu")
