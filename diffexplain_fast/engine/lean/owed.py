"""Biases of convolutions that the next norm adds.

torch adds a convolution's bias to cuDNN's result in a launch of its own, which reads and writes the whole image. A
group norm can add a number to each channel while it reads. So a convolution leaves its bias out, and its result *owes*
that bias: one number for each channel, the same for all images, known once the weights are read. What is owed goes on
with the image: around a residual block, through the product of its shortcut, and to a skip connection; the norms on the
way add it. Whatever needs the image itself, such as a convolution, comes after a layer that owes nothing.
"""

import torch
from torch import Tensor

from diffexplain_fast.ops.conv2d_frozen import Convolution

Owed = Tensor | None
"""What each channel [C] of an image owes, in float32 at least; None for nothing."""


def left_out(convolution: Convolution) -> Owed:
    """Take the bias from a convolution, and return it."""
    bias, convolution.bias = convolution.bias, None
    return wide(bias)


def wide(bias: Tensor | None) -> Owed:
    """Return a bias in float32 at least."""
    return None if bias is None else bias.to(torch.promote_types(bias.dtype, torch.float32))


def summed(one: Owed, other: Owed) -> Owed:
    """Return what a sum of two images owes."""
    return one if other is None else other if one is None else one + other


def joined(one: Owed, other: Owed, channels: int) -> Owed:
    """Return what a concatenation of two images, which has so many channels, owes."""
    known = one if other is None else other
    if known is None:
        return None
    free = known.new_zeros(channels - len(known))
    return torch.cat([free if one is None else one, free if other is None else other])
