"""Whether a rival's gradient is plain autograd's, compared in true float32: a rival that differs gets no figures."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from diffexplain_fast.measuring.bench.rivals import OTHER_GRADIENT, Make, plain, step_checkpointing
from diffexplain_fast.measuring.bench.rows import Row
from diffexplain_fast.measuring.bench.workloads import Images, Workload

AGREEMENT = 1e-2
"""Largest relative L2 distance of a float32 gradient to plain autograd's that counts as the same gradient."""
_GATE_STEPS = 2
_Item = TypeVar("_Item")


def gradient(workload: Workload, images: Images, number: int) -> Tensor:
    """Return one iteration's gradient with respect to the optimised tensor, after the device has finished.

    The number of the iteration seeds its noise. Raises a ``ValueError`` if the images do not depend on the prompt.
    """
    soft = workload.start.clone().requires_grad_()
    # Not torch.autograd.grad: a rival that leaves its weights unfrozen pays for their gradients too.
    workload.loss(images(workload.embeds(soft), workload.latents(number))).backward()
    if soft.grad is None:
        raise ValueError("the images have no gradient with respect to the prompt")
    if soft.is_cuda:
        torch.cuda.synchronize(soft.device)
    return soft.grad


def short(workload: Workload) -> Workload:
    """Return a workload with as few steps as its gradients are compared on."""
    return workload.with_options(steps=_GATE_STEPS)


@contextmanager
def true_float32() -> Iterator[None]:
    """Multiply float32 numbers as they are while the context is open: TF32, cuDNN's default, keeps 10 bits of each."""
    cudnn: Any = torch.backends.cudnn
    places: list[tuple[object, str, object]] = [(torch.backends.cuda.matmul, "fp32_precision", "ieee")]
    try:
        _ = cudnn.allow_tf32
        places += [(cudnn, "allow_tf32", False)]
    except RuntimeError:  # after the newer names were used, torch refuses to read this one
        places += [(part, "fp32_precision", "ieee") for part in (cudnn.conv, cudnn.rnn)]
    before = [(place, name, getattr(place, name)) for place, name, _ in places]
    try:
        for each in places:
            setattr(*each)
        yield
    finally:
        for each in before:
            setattr(*each)


def gates(workload: Workload, rivals: Mapping[str, Make], until: float = math.inf) -> Iterator[tuple[str, Row]]:
    """Yield each rival's name, and its relative L2 distance to plain autograd's gradient or why it is refused.

    Where there is no memory for plain autograd, the truth is the same gradient with one checkpoint around each step.
    A rival that raises is refused with its message. After ``until``, of ``time.monotonic``, no more are compared.
    """
    truth: Tensor | None = None
    for name, make in shown(rivals.items(), "comparing gradients"):
        if time.monotonic() >= until:
            return
        with true_float32():
            try:
                truth = gradient(workload, plain(workload.setting), 0) if truth is None else truth
            except torch.OutOfMemoryError:  # the same operations, and room for them on a small card
                truth = gradient(workload, step_checkpointing(workload.setting), 0)
            row = _compared(workload, make, truth, name in OTHER_GRADIENT)
        yield name, row


def _compared(workload: Workload, make: Make, truth: Tensor, other: bool) -> Row:
    try:
        distance = float((gradient(workload, make(workload.setting), 0) - truth).norm() / truth.norm())
    except Exception as problem:  # it may be anybody's code; the row says why it stopped
        return {"gradient_distance": None, "refused": reason(problem)}
    row: Row = {"gradient_distance": distance if math.isfinite(distance) else None}
    if not math.isfinite(distance) or (distance > AGREEMENT and not other):
        row["refused"] = f"its gradient is {distance:.1e} from plain autograd's"
    return row


def shown(items: Iterable[_Item], doing: str) -> Iterable[_Item]:
    """Return the same items, with a progress bar while they are worked on, on a terminal only."""
    return tqdm(list(items), desc=doing, leave=False, disable=None)


def reason(problem: Exception) -> str:
    """Return the kind of a problem and the first line that it says."""
    return f"{type(problem).__name__}: {str(problem).partition(chr(10))[0]}"
