"""How long one launch takes on a card: measured rates of one H200, scaled to other cards by their data sheets.

Measured were a copy, convolutions and attention of Stable Diffusion's sizes, and kernels that move bytes, on 2026-11-27
by ``benchmarks.gpu_ops`` and ``benchmarks.tune``. Products of the denoiser are an estimate.
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from diffexplain_fast.prediction.launches import Launch

_Rates = tuple[tuple[int, float], ...]
"""Pairs of a size and a rate in TFLOP/s, by size; between two the logarithm of the size decides."""
_CONVOLUTION: _Rates = ((128, 149.0), (512, 424.0), (2048, 405.0), (8192, 372.0))
"""Pixels of all images to TFLOP/s of a 3 x 3 convolution, channels last, bfloat16: measured."""
_PRODUCT = 295.0
"""TFLOP/s of the denoiser's products, whose sizes fill the card badly: estimated."""
_ATTENTION: dict[tuple[str, str], _Rates] = {
    ("triton", "fwd"): ((256**2, 41.0), (1024**2, 170.0), (4096**2, 212.0)),
    ("triton", "bwd"): ((256**2, 28.0), (1024**2, 124.0), (4096**2, 160.0)),
    ("cudnn", "fwd"): ((256**2, 59.0), (1024**2, 273.0), (4096**2, 281.0)),
    ("cudnn", "bwd"): ((256**2, 55.0), (1024**2, 250.0), (4096**2, 263.0)),
}
"""By kernel and direction: queries times keys, and the rate, with Stable Diffusion's 160, 80 and 40 columns."""
_SHORT_ATTENTION: dict[tuple[str, str], _Rates] = {
    ("triton", "fwd"): ((1024 * 77, 57.0), (4096 * 77, 56.0)),
    ("triton", "bwd"): ((1024 * 77, 37.0), (4096 * 77, 39.0)),
    ("cudnn", "fwd"): ((1024 * 77, 43.0), (4096 * 77, 53.0)),
    ("cudnn", "bwd"): ((1024 * 77, 19.0), (4096 * 77, 17.0)),
}
"""The same for the few keys of a text."""
_SHORT = 128
"""Fewest keys that are not few."""
_OTHER_ATTENTION = 216.0
"""TFLOP/s of attention by other kernels, such as the decoder's over 512 columns: estimated."""
_MOVING = 0.92
"""Share of a copy's rate at which norms and elementwise kernels move their bytes after the first microseconds."""
_SUMMING = 0.54
"""The same for a group norm's sums."""


class Gpu(NamedTuple):
    """A card as the model sees it.

    Attributes:
        bandwidth: TB/s of a copy, read and written.
        compute: rate of matrix units as a share of one H200's.
        floor: microseconds of a kernel that does nothing, between two others.
        gap: microseconds between two kernels of a recorded graph.
        cudnn: whether torch prefers cuDNN's attention on the card.
    """

    bandwidth: float
    compute: float
    floor: float = 2.2
    gap: float = 1.0
    cudnn: bool = False


class Kernel(NamedTuple):
    """One kind of launch in a forward and its backward.

    Attributes:
        family: as in ``Launch``.
        name: as in ``Launch``.
        forward: number of launches forward.
        backward: number of launches backward.
        ms: predicted milliseconds of all of them, the gaps after them included.
    """

    family: str
    name: str
    forward: int
    backward: int
    ms: float


_H200 = 3.9
GPUS = {
    "h200": Gpu(_H200, 1.0, cudnn=True),
    "h100": Gpu(_H200 * 3350 / 4800, 1.0, cudnn=True),
    "a100": Gpu(_H200 * 2039 / 4800, 312 / 990, 3.0, 1.3),
    "rtx5090": Gpu(_H200 * 1792 / 4800, 209.5 / 990),
    "rtx4090": Gpu(_H200 * 1008 / 4800, 165.2 / 990),
    "rtx4070": Gpu(_H200 * 504 / 4800, 58.3 / 990),
    "rtx3090": Gpu(_H200 * 936 / 4800, 71.0 / 990, 3.0, 1.3),
    "rtx3060": Gpu(_H200 * 360 / 4800, 25.5 / 990, 3.0, 1.3),
}
"""Name to card; the copy of the H200 is measured, all else follows from data sheets."""


def microseconds(launch: Launch, gpu: Gpu) -> float:
    """Return how long one launch takes, the gap after it left out."""
    share = _SUMMING if launch.name.endswith("_partial_kernel") else _MOVING
    moving = launch.bytes / (share * gpu.bandwidth) / 1e6
    rate = _rate(launch)
    computing = launch.flop / (rate * gpu.compute) / 1e6 if rate else 0.0
    return max(gpu.floor + moving, computing)


def milliseconds(launches: Sequence[Launch], gpu: Gpu) -> dict[str, float]:
    """Return the time of some launches by family, and of the gaps between them under "gaps"."""
    found: dict[str, float] = {}
    for launch in launches:
        found[launch.family] = found.get(launch.family, 0.0) + microseconds(launch, gpu) / 1e3
    return found | {"gaps": len(launches) * gpu.gap / 1e3}


def by_kernel(forward: Sequence[Launch], backward: Sequence[Launch], gpu: Gpu) -> list[Kernel]:
    """Return the kernels of two lists of launches, those that take longest first.

    Args:
        forward: launches of a forward.
        backward: launches of its backward.
        gpu: the card.
    """
    counts = [Counter((launch.family, launch.name) for launch in way) for way in (forward, backward)]
    times: dict[tuple[str, str], float] = {}
    for launch in (*forward, *backward):
        kind = (launch.family, launch.name)
        times[kind] = times.get(kind, 0.0) + (microseconds(launch, gpu) + gpu.gap) / 1e3
    kernels = [Kernel(*kind, counts[0][kind], counts[1][kind], ms) for kind, ms in times.items()]
    return sorted(kernels, key=lambda kernel: -kernel.ms)


def _rate(launch: Launch) -> float:
    """Return the TFLOP/s of a launch, 0 for one that moves bytes only."""
    if launch.family == "convolution":
        return _at(_CONVOLUTION, launch.rows * launch.side**2)
    if launch.family == "product":
        return _PRODUCT
    if launch.family != "attention":
        return 0.0
    kernel = "cudnn" if "cudnn" in launch.name else "triton"
    if kernel == "triton" and not launch.name.startswith("attention_"):
        return _OTHER_ATTENTION
    way = "bwd" if "_bwd_" in launch.name or "backward" in launch.name else "fwd"
    table = _SHORT_ATTENTION if launch.keys < _SHORT else _ATTENTION
    return _at(table[kernel, way], launch.rows * launch.keys)


def _at(rates: _Rates, size: int) -> float:
    """Interpolate a rate in the logarithm of a size; outside the table, its ends."""
    for (low, slow), (high, fast) in pairwise(rates):
        if size <= high:
            share = math.log(max(size, low) / low) / math.log(high / low)
            return slow + share * (fast - slow)
    return rates[-1][1]
