"""Settings of torch that a caller may have changed, and under which another classifier would be made, or none."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def usual_settings() -> Iterator[None]:
    """Compute as torch does when nobody has changed anything, and give the caller's settings back afterwards.

    New tensors are float32, on the CPU and no inference tensors; gradients are recorded, and nothing is autocast.
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    on_cpu = nullcontext() if device.type == "cpu" else torch.device("cpu")
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False), on_cpu:
            yield
    finally:
        torch.set_default_dtype(dtype)


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Compute with one thread of torch, and give the caller's number of threads back afterwards.

    The number of threads decides in which order a sum is rounded, so that a training ends with other weights. One is
    the only number that every machine has.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
