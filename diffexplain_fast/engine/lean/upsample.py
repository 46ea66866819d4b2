"""Nearest upsampling and its convolution: by two at the low resolution, to any other size at the high one."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from diffexplain_fast.engine.lean.owed import Owed, wide
from diffexplain_fast.engine.lean.reading import conv, known
from diffexplain_fast.engine.lean.taken import unsupported
from diffexplain_fast.ops._register import channels_last
from diffexplain_fast.ops.conv2d_frozen import Convolution
from diffexplain_fast.ops.upsample_conv import SubpixelWeight, pack_subpixel, upsample_conv


class Upsample:
    """A frozen Upsample2D of a UNet, whose output may have to match a skip connection of odd size.

    Args:
        module: diffusers Upsample2D.
        packs: whether to sum the weights for the low resolution.
        impl: implementation of the interleaving.

    Raises:
        UnsupportedModelError: another kind.
    """

    def __init__(self, module: Any, packs: bool, impl: str) -> None:
        packed = read_up(module)
        self._module, self._impl, self._packed = module, impl, packed if packs else None
        self._convolution: Convolution | None = None
        self._bias, self._owes = packed.bias, False

    def owe(self) -> Owed:
        """Leave out the bias and return it; see ``owed``."""
        self._owes = True
        if self._packed is not None:
            self._packed.convolution.bias = None
        return wide(self._bias)

    def __call__(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Return x [N, C, h, w] upsampled to ``size`` (H, W) and convolved, [N, K, H, W], channels-last."""
        if self._packed is not None and list(size) == [2 * side for side in x.shape[2:]]:
            return upsample_conv(x, self._packed, impl=self._impl)
        if self._convolution is None:
            with torch.inference_mode(False), torch.no_grad():  # later calls may record a graph
                self._convolution = conv(self._module.conv)
            if self._owes:
                self._convolution.bias = None
        return channels_last(self._convolution(F.interpolate(x, size=tuple(size), mode="nearest")))


def read_up(module: Any) -> SubpixelWeight:
    """Read and pack an Upsample2D: nearest, then a 3 x 3 convolution.

    Raises:
        UnsupportedModelError: another kind.
    """
    known(module, "Upsample2D")
    if not module.use_conv or module.use_conv_transpose or module.norm is not None or not module.interpolate:
        raise unsupported(module, "an Upsample2D without nearest interpolation and convolution")
    convolution = conv(module.conv)
    if convolution.weight.shape[2:] != (3, 3) or convolution.padding != 1:
        raise unsupported(module, "an Upsample2D whose convolution is not 3 x 3")
    return pack_subpixel(convolution.weight, convolution.bias)
