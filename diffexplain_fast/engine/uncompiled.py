"""Where the lean models are slower than diffusers' modules: on a CPU without the compiled kernels."""

import torch

from diffexplain_fast.engine.memory.resident import weight_bytes
from diffexplain_fast.ops.raw import RawOps

_SMALL = 2**28
"""Bytes of weights up to which the graph of a whole call, which the reference keeps, is no worry for a computer."""


def slower_here(unet: torch.nn.Module, vae: torch.nn.Module) -> str:
    """Return why the reference is faster than the fast engine here, an empty text where it is not.

    Small models on a CPU without the compiled kernels: ``diffexplain-fast bench run``, of a package that was installed
    with ``DIFFEXPLAIN_FAST_BUILD=0``, measures both by turns; the reference is the rival "plain autograd" there.

    Args:
        unet: diffusers UNet2DConditionModel.
        vae: diffusers AutoencoderKL.
    """
    weight = next(unet.parameters())
    if weight.device.type != "cpu" or weight_bytes((unet, vae)) > _SMALL:
        return ""
    choice = RawOps(weight.device, weight.dtype).choices["group_norm_silu"]
    if choice.impl != "reference":
        return ""
    return f"small models on a CPU are faster by the reference where kernels are not compiled ({choice.reason})"
