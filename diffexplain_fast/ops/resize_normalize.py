"""Antialiased resizing as two matrix products: differentiable, and deterministic on every device."""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.ops._autocast import without_autocast

MODES = ("bilinear", "bicubic")


@without_autocast
def resize(pixels: Tensor, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """Return images resized with antialiasing: W_h x W_w^T, where each W holds what one line of pixels becomes.

    Args:
        pixels: images [..., H, W], floating point; half precision is computed in float32.
        size: new height and width.
        mode: "bilinear" or "bicubic"; bicubic overshoots, values are not clamped.

    Returns:
        Images [..., *size], of the same dtype and device, differentiable in ``pixels``.

    Raises:
        TypeError: no tensor, or no pair of whole numbers.
        ValueError: fewer than two dimensions, an empty side, another mode, or a dtype that is not floating point.

    Equivalent to: ``F.interpolate(pixels, size, mode=mode, antialias=True)``, whose CUDA backward is not deterministic,
        and whose result on the CPU (torch 2.13) is wrong when it is one column wide: every row is the first.
    """
    _check(pixels, size, mode)
    if tuple(pixels.shape[-2:]) == tuple(size):
        return pixels
    dtype = torch.promote_types(pixels.dtype, torch.float32)
    down, across = (
        _weights(old, new, mode, dtype, pixels.device) for old, new in zip(pixels.shape[-2:], size, strict=True)
    )
    return (down @ (pixels.to(dtype) @ across.T)).to(pixels.dtype)


def resize_normalize(
    pixels: Tensor, size: tuple[int, int], mean: Sequence[float], std: Sequence[float], mode: str = "bilinear"
) -> Tensor:
    """Return what a classifier reads: images resized with antialiasing, then (pixels - mean) / std per channel.

    Args:
        pixels: images [..., C, H, W], floating point.
        size: new height and width.
        mean: one number per channel.
        std: one number per channel, not 0.
        mode: "bilinear" or "bicubic".

    Returns:
        Images [..., C, *size], of the same dtype, differentiable in ``pixels``; nothing of the input is kept.

    Raises:
        TypeError: as ``resize``, or no sequence of numbers.
        ValueError: as ``resize``, or numbers that do not fit the channels.

    Equivalent to: ``(resize(pixels, size, mode) - mean) / std``.
    """
    _check(pixels, size, mode)
    if pixels.ndim < 3:
        raise wrong_value("pixels", "shape [..., C, H, W]", list(pixels.shape))
    for name, numbers in (("mean", mean), ("std", std)):
        if not isinstance(numbers, Sequence):
            raise wrong_type(name, "a sequence of numbers", numbers)
        if len(numbers) != pixels.shape[-3]:
            raise wrong_value(name, f"one number for each of the {pixels.shape[-3]} channels", list(numbers))
    if any(number == 0 for number in std):
        raise wrong_value("std", "numbers that are not 0", list(std))
    resized = resize(pixels, size, mode)
    centre, spread = (resized.new_tensor(numbers)[:, None, None] for numbers in (mean, std))
    return (resized - centre) / spread


def _check(pixels: Tensor, size: tuple[int, int], mode: str) -> None:
    if not isinstance(pixels, Tensor):
        raise wrong_type("pixels", "a tensor", pixels)
    if not isinstance(size, tuple | list) or len(size) != 2 or not all(type(side) is int for side in size):
        raise wrong_type("size", "a pair of whole numbers, height and width", size)
    if pixels.ndim < 2 or 0 in pixels.shape[-2:]:
        raise wrong_value("pixels", "shape [..., H, W] with H and W at least 1", list(pixels.shape))
    if not pixels.is_floating_point():
        raise wrong_value("pixels", "a floating point dtype", pixels.dtype)
    if min(size) < 1:
        raise wrong_value("size", "height and width of at least 1", size)
    if mode not in MODES:
        raise wrong_value("mode", " or ".join(MODES), repr(mode))


@functools.lru_cache(maxsize=64)
def _weights(old: int, new: int, mode: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return W [new, old], from a float64 identity: nearer to the truth than torch's own float32 weights."""
    with torch.inference_mode(False), torch.no_grad():  # kept, so never an inference tensor
        identity = torch.eye(old, dtype=torch.float64, device="cpu")[None, None]  # [1, 1, pixel, one line each]
        weights = F.interpolate(identity, (new, old), mode=mode, antialias=True, align_corners=False)
        return weights[0, 0].to(device, dtype)
