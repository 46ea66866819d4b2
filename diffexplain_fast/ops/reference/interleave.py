"""Interleaving four phases of an image written out."""

import torch
from torch import Tensor


def interleave_fwd(parts: Tensor) -> Tensor:
    """Return y [N, C, 2H, 2W] with y[:, :, 2i+a, 2j+b] = block 2a+b of the channels [N, 4C, H, W] at (i, j)."""
    n, channels, height, width = parts.shape
    phases = parts.reshape(n, 2, 2, channels // 4, height, width)  # [N, a, b, C, i, j]
    y = phases.permute(0, 3, 4, 1, 5, 2).reshape(n, channels // 4, 2 * height, 2 * width)
    # Always a copy: for a .contiguous() without effect, torch 2.11 compiles a gradient of zero.
    return y.clone(memory_format=torch.channels_last)


def interleave_bwd(dy: Tensor) -> Tensor:
    """Return the four phases of dy [N, C, 2H, 2W] as blocks of channels [N, 4C, H, W]: the inverse permutation."""
    n, channels, height, width = dy.shape
    pixels = dy.reshape(n, channels, height // 2, 2, width // 2, 2)  # [N, C, i, a, j, b]
    parts = pixels.permute(0, 3, 5, 1, 2, 4).reshape(n, 4 * channels, height // 2, width // 2)
    return parts.contiguous(memory_format=torch.channels_last)
