"""Cutouts and noise on the input of the classifier, against solutions that depend on exact pixels.

Source: DiG-IN (Augustin, Neuhaus, Hein, arXiv 2311.17833), which scores 16 cutouts with noise of 0.005.
"""

import torch
from torch import Tensor

from diffexplain_fast.evidence.seeds import normal, uniform
from diffexplain_fast.ops.resize_normalize import resize

_SMALLEST_CUTOUT = 0.6
"""Side of the smallest cutout as a share of the shorter side of the image."""


def perturb(pixels: Tensor, cutouts: int, noise: float, generator: torch.Generator) -> Tensor:
    """Return the images and random square crops of them, noise added.

    Args:
        pixels: images [B, 3, H, W] in [0, 1].
        cutouts: number of crops of the whole batch, each resized to [H, W].
        noise: standard deviation of Gaussian noise, for pixels in [0, 1].
        generator: CPU generator of positions, sizes and noise.

    Returns:
        Pixels [B * (1 + cutouts), 3, H, W] in [0, 1], differentiable in ``pixels``.
    """
    height, width = pixels.shape[-2:]
    views = [pixels]
    for share, down, right in uniform(generator, cutouts, 3).tolist():
        side = max(1, round(min(height, width) * (_SMALLEST_CUTOUT + (1 - _SMALLEST_CUTOUT) * share)))
        top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
        views.append(resize(pixels[..., top : top + side, left : left + side], (height, width)))
    seen = torch.cat(views)
    if noise:
        seen = seen + noise * normal(generator, *seen.shape).to(seen.device, seen.dtype)
    return seen.clamp(0, 1) if cutouts or noise else seen
