"""Antialiased resizing as two matrix products: differentiable, and deterministic on every device."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.ops._autocast import without_autocast
from diffexplain_fast.ops._constants import constant, kept

MODES = ("bilinear", "bicubic")
_DENSE = 2**22
"""Most weights of a line that one matrix holds, 16 MiB in float32; with more, a line is held in blocks."""
_BAND = 128
"""Least number of pixels that a block of a longer line reads, in addition to the reach of its filter."""


@without_autocast
def resize(pixels: Tensor, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """Return images resized with antialiasing: W_h x W_w^T, where each W holds the weights of one line of pixels.

    Memory is proportional to the pixels of both images: a W of long lines is held as blocks along its diagonal.

    Args:
        pixels: images [..., H, W], floating point; half precision is computed in float32.
        size: new height and width.
        mode: "bilinear" or "bicubic"; bicubic overshoots, and values are not clamped.

    Returns:
        Images [..., *size], of the same dtype and device, differentiable in ``pixels``. A pixel that is infinite or NaN
        makes new pixels NaN in its whole channel, or in a part of it if lines are long, because its product with a
        weight of 0 is NaN; ``F.interpolate`` has NaN only in the reach of its filter.

    Raises:
        TypeError: ``pixels`` is not a tensor, or ``size`` is not a pair of whole numbers.
        ValueError: fewer than two dimensions, an empty side, another mode, or a dtype that is not floating point.

    Equivalent to: ``F.interpolate(pixels, size, mode=mode, antialias=True)``, whose CUDA backward is not deterministic,
        and whose result on the CPU (torch 2.13) is wrong when it is one column wide: every row is the first.
    """
    _check(pixels, size, mode)
    if tuple(pixels.shape[-2:]) == tuple(size):
        return pixels
    dtype = torch.promote_types(pixels.dtype, torch.float32)
    (height, width), (high, wide) = pixels.shape[-2:], size
    down, across = (_weights(*sides, mode, dtype, pixels.device) for sides in ((height, high), (width, wide)))
    exact = pixels.to(dtype)
    # If images become wider and lower, the width comes last: otherwise the tensor in between would be the largest.
    if height * wide > max(height * width, high * wide):
        return _across(_down(exact, down), across).to(pixels.dtype)
    return _down(_across(exact, across), down).to(pixels.dtype)


def resize_normalize(
    pixels: Tensor, size: tuple[int, int], mean: Sequence[float], std: Sequence[float], mode: str = "bilinear"
) -> Tensor:
    """Return the input of a classifier: images resized with antialiasing, then (pixels - mean) / std per channel.

    Args:
        pixels: images [..., C, H, W], floating point.
        size: new height and width.
        mean: one number per channel.
        std: one number per channel, not 0.
        mode: "bilinear" or "bicubic".

    Returns:
        Images [..., C, *size], of the same dtype, differentiable in ``pixels``; nothing of the input is kept.

    Raises:
        TypeError: as ``resize``, or ``mean`` or ``std`` is not a sequence of numbers.
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
    centre, spread = (constant(tuple(numbers), resized.dtype, resized.device)[:, None, None] for numbers in (mean, std))
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


class _Block(NamedTuple):
    """Weights [new, last - first] of some pixels of a new line, for pixels [first, last) of the old line."""

    first: int
    last: int
    weights: Tensor


def _across(pixels: Tensor, blocks: Sequence[_Block]) -> Tensor:
    """Return [..., H, new] of pixels [..., H, W]."""
    resized = [pixels[..., block.first : block.last] @ block.weights.T for block in blocks]
    return resized[0] if len(resized) == 1 else torch.cat(resized, -1)


def _down(pixels: Tensor, blocks: Sequence[_Block]) -> Tensor:
    """Return [..., new, W] of pixels [..., H, W]."""
    resized = [block.weights @ pixels[..., block.first : block.last, :] for block in blocks]
    return resized[0] if len(resized) == 1 else torch.cat(resized, -2)


@kept(64)
def _weights(old: int, new: int, mode: str, dtype: torch.dtype, device: torch.device) -> tuple[_Block, ...]:
    """Return W [new, old] in blocks, computed in float64, which is more exact than torch's float32 weights."""
    scale = old / new
    reach = (1.0 if mode == "bilinear" else 2.0) * max(scale, 1.0)
    rows = new if old * new <= _DENSE else max(1, int(max(2 * reach, _BAND) / scale))
    blocks = []
    with torch.inference_mode(False), torch.no_grad():  # the weights are kept, so they must not be inference tensors
        for first in range(0, new, rows):
            last = min(first + rows, new)
            begin = max(0, int(scale * (first + 0.5) - reach + 0.5)) if rows < new else 0
            end = min(old, int(scale * (last - 0.5) + reach + 0.5)) if rows < new else old
            weights = _filtered(torch.arange(first, last), torch.arange(begin, end), scale, reach, mode)
            blocks.append(_Block(begin, end, weights.to(device, dtype)))
    return tuple(blocks)


def _filtered(lines: Tensor, pixels: Tensor, scale: float, reach: float, mode: str) -> Tensor:
    """Return float64 weights [new, old] of pixels around the centres of new ones, which sum to 1.

    Args:
        lines: indices of new pixels [new].
        pixels: indices of old pixels [old], which include all that have a weight.
        scale: number of old pixels for each new pixel.
        reach: reach of the filter in old pixels.
        mode: "bilinear" or "bicubic".

    Source: Keys (1981), eq. 4 with a = -1/2, stretched by the scale if that is above 1, as in PIL and torch.
    """
    centres = scale * (lines.to("cpu", torch.float64) + 0.5)[:, None]
    x = ((pixels.to("cpu", torch.float64) - centres + 0.5) * (1 / max(scale, 1.0))).abs()
    if mode == "bilinear":
        weights = 1 - x
        inside = x < 1
    else:
        near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
        weights = torch.where(x < 1, near, far)
        inside = x < 2
    weights = torch.where(inside, weights, 0.0)
    return weights / weights.sum(1, keepdim=True)
