"""Shared by the tests of kernels: inputs and outputs between NaN pads, and comparison within the budget."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffexplain_fast.kernels.configs import CONFIGS
from torch import Tensor

from tests.budget import assert_within_budget

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
"""Device of the kernels: without a CUDA device, they run in the interpreter on the CPU."""
PAD = 1024
"""Number of padding elements on either side of a tensor."""
_SENTINEL = 1234.0


def padded(tensor: Tensor) -> Tensor:
    """Return a copy on the device inside a buffer of NaN, so that a read outside of the tensor changes the result."""
    view, _ = _between_pads(tensor.to(DEVICE), float("nan"))
    return view.copy_(tensor)


def _between_pads(like: Tensor, pad: float) -> tuple[Tensor, Tensor]:
    buffer = torch.full((like.numel() + 2 * PAD,), pad, dtype=like.dtype, device=like.device)
    return buffer[PAD : PAD + like.numel()].as_strided(like.shape, like.stride()), buffer


@contextmanager
def guarded_empty(upcast: bool = False) -> Iterator[None]:
    """Make ``torch.empty`` and ``empty_like`` return NaN between pads, and use every kernel's first configuration.

    Afterwards no pad may have changed.

    Args:
        upcast: True to return float32 for bfloat16, because the interpreter's store truncates but hardware rounds.
    """
    buffers = []

    def guard(real: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def make(*args: Any, **options: Any) -> Tensor:
            made = real(*args, **options)
            if upcast and made.dtype == torch.bfloat16:
                made = made.float()
            view, buffer = _between_pads(made, _SENTINEL)
            buffers.append(buffer)
            return view.fill_(float("nan"))

        return make

    with pytest.MonkeyPatch.context() as patch:
        for name, choices in CONFIGS.items():
            patch.setitem(CONFIGS, name, choices[:1])
        for name in ("empty", "empty_like"):
            patch.setattr(torch, name, guard(getattr(torch, name)))
        yield
    for buffer in buffers:
        assert (buffer[:PAD] == _SENTINEL).all() and (buffer[-PAD:] == _SENTINEL).all(), "written outside an output"


def check(
    kernel: Callable[..., Any], reference: Callable[..., Any], inputs: tuple[Any, ...], *, factor: float = 2.0
) -> tuple[Tensor, ...]:
    """Compare a launcher with the reference in float64; the error of the reference in the inputs' dtype is the measure.

    Args:
        kernel: launcher.
        reference: function with the same arguments.
        inputs: tensors, already rounded to their dtype, None, numbers and flags.
        factor: 2 for values, 3 for gradients.

    Returns:
        The reference's results in the inputs' dtype, for further calls.
    """
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    before = [value.clone() for value in tensors]
    low = DEVICE.type == "cpu" and any(value.dtype == torch.bfloat16 for value in tensors)
    plain = _tuple(reference(*inputs))
    truth = _tuple(reference(*(value.double() if isinstance(value, Tensor) else value for value in inputs)))
    with guarded_empty(upcast=low):
        got = _tuple(kernel(*(padded(value) if isinstance(value, Tensor) else value for value in inputs)))
    for i, (ours, theirs, exact) in enumerate(zip(got, plain, truth, strict=True)):
        assert _formats(ours) == _formats(theirs), f"result {i}: strides {ours.stride()}, wanted {theirs.stride()}"
        assert_within_budget(f"result {i} of {kernel.__name__}", ours.to(theirs.dtype).cpu(), theirs, exact, factor)
    assert all(torch.equal(a, b) for a, b in zip(before, tensors, strict=True)), "an input was written to"
    return plain


def _formats(tensor: Tensor) -> list[bool]:
    """Return the memory orders in which a tensor is dense; the stride of a size of 1 does not count."""
    orders = [torch.contiguous_format, *([torch.channels_last] if tensor.ndim == 4 else [])]
    return [tensor.is_contiguous(memory_format=order) for order in orders]


def _tuple(results: Any) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)


def channels_last(*shape: int, dtype: torch.dtype) -> Tensor:
    """Return random numbers [N, C, H, W] rounded to a dtype, channels-last."""
    return torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)
