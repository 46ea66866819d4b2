"""How long one launch takes on a card: measured rates of one H200, scaled to other cards by their data sheets.

The rates of the H200 are fixed, until rows of ``bench run --device cuda`` replace them: a copy, a large product, and
convolutions of Stable Diffusion's sizes were measured; products, attention and small kernels are estimates from them.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from diffexplain_fast.prediction.launches import Launch

_CONVOLUTION = ((128, 149.0), (512, 424.0), (2048, 405.0), (8192, 372.0))
"""Pixels of all images to TFLOP/s of a 3 x 3 convolution, channels last, bfloat16: measured."""
_PRODUCT = 295.0
"""TFLOP/s of the denoiser's products, whose sizes fill the card badly: estimated."""
_ATTENTION = 216.0
"""TFLOP/s of attention over 4096 tokens of 40 columns, both ways: estimated."""
_MOVING = 0.75
"""Share of a copy's rate at which norms and elementwise kernels move their bytes: estimated."""


class Gpu(NamedTuple):
    """A card as the model sees it.

    Attributes:
        bandwidth: TB/s of a copy, read and written.
        compute: rate of matrix units as a share of one H200's.
        floor: microseconds that no kernel goes below.
        gap: microseconds between two kernels of a recorded graph.
    """

    bandwidth: float
    compute: float
    floor: float = 3.0
    gap: float = 1.0


_H200 = 4.22
GPUS = {
    "h200": Gpu(_H200, 1.0),
    "h100": Gpu(_H200 * 3350 / 4800, 1.0),
    "a100": Gpu(_H200 * 2039 / 4800, 312 / 990, 4.0, 1.3),
    "rtx5090": Gpu(_H200 * 1792 / 4800, 209.5 / 990),
    "rtx4090": Gpu(_H200 * 1008 / 4800, 165.2 / 990),
    "rtx4070": Gpu(_H200 * 504 / 4800, 58.3 / 990),
    "rtx3090": Gpu(_H200 * 936 / 4800, 71.0 / 990, 4.0, 1.3),
    "rtx3060": Gpu(_H200 * 360 / 4800, 25.5 / 990, 4.0, 1.3),
}
"""Name to card; the copy of the H200 is measured, all else follows from data sheets."""


def microseconds(launch: Launch, gpu: Gpu) -> float:
    """Return how long one launch takes, the gap after it left out."""
    moving = launch.bytes / (_MOVING * gpu.bandwidth) / 1e6
    rate = {"product": _PRODUCT, "attention": _ATTENTION}.get(launch.family, 0.0)
    if launch.family == "convolution":
        rate = _at(launch.rows * launch.side**2)
    computing = launch.flop / (rate * gpu.compute) / 1e6 if rate else 0.0
    return max(moving, computing, gpu.floor)


def milliseconds(launches: Sequence[Launch], gpu: Gpu) -> dict[str, float]:
    """Return the time of some launches by family, and of the gaps between them under "gaps"."""
    found: dict[str, float] = {}
    for launch in launches:
        found[launch.family] = found.get(launch.family, 0.0) + microseconds(launch, gpu) / 1e3
    return found | {"gaps": len(launches) * gpu.gap / 1e3}


def _at(pixels: int) -> float:
    """Interpolate the rate of a convolution in the logarithm of its pixels; outside the table, its ends."""
    for (low, slow), (high, fast) in pairwise(_CONVOLUTION):
        if pixels <= high:
            share = math.log(max(pixels, low) / low) / math.log(high / low)
            return slow + share * (fast - slow)
    return _CONVOLUTION[-1][1]
