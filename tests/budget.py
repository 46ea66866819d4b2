"""The error budget of a kernel: the error of plain PyTorch in the same dtype, times a small factor."""

import torch
from torch import Tensor


def assert_within_budget(name: str, got: Tensor, plain: Tensor, truth: Tensor, factor: float = 2.0) -> None:
    """Assert that the error of ``got`` is at most ``factor`` times that of plain PyTorch, plus rounding.

    Args:
        name: name of the compared value, for the message.
        got: the kernel's result.
        plain: plain PyTorch's result.
        truth: the float64 reference for the same inputs, which are already rounded.
        factor: 2 for values, 3 for gradients.
    """
    assert got.dtype == plain.dtype and got.shape == plain.shape == truth.shape and truth.dtype == torch.float64, name
    if not truth.numel():
        return

    def rms(error: Tensor) -> Tensor:
        return error.square().mean().sqrt()

    e_got, e_plain = got.double() - truth, plain.double() - truth
    size, eps = rms(truth).clamp_min(1e-300), torch.finfo(got.dtype).eps
    noise = 4 * (rms(e_plain) + eps * size) / truth.numel() ** 0.5
    measures = (
        ("max", lambda error: error.abs().max(), eps * truth.abs().max()),
        ("rms", rms, eps * size),
        ("bias", lambda error: error.mean().abs(), noise),
        ("gain", lambda error: (error * truth).mean().abs() / size, noise),
    )
    for kind, measure, band in measures:
        error, limit = measure(e_got), factor * (measure(e_plain) + band)
        assert error <= limit, f"{name}: {kind} error {error:.2e} over {limit:.2e}, {tuple(got.shape)}, {got.dtype}"
