"""What people do today, and ours: images from prompt embeddings, built by one setup on the same weights and inputs."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from diffexplain_fast.measuring.bench.loop import Graphed, Loop
from diffexplain_fast.measuring.bench.setting import Images, Sampled, Setting
from diffexplain_fast.ops import conv2d_frozen

Make = Callable[[Setting], Images]
"""What builds a rival; raises where it cannot run, and the reason goes into its row."""


def plain(setting: Setting) -> Images:
    """Plain autograd through eager diffusers: everything is stored."""
    return setting.sampler(backend="reference")


def step_checkpointing(setting: Setting) -> Images:
    """One torch checkpoint around each step and the decoder, as AlignProp does."""
    return setting.sampler(backend="reference", gradient="checkpointed")


def channels_last(setting: Setting) -> Images:
    """One checkpoint around each step, and the convolutions in the layout that suits them."""
    unet, vae = (model.to(memory_format=torch.channels_last) for model in setting.copies())
    return step_checkpointing(replace(setting, unet=unet, vae=vae))


def compiled(setting: Setting) -> Images:
    """One checkpoint around each step, and the UNet compiled; the first call takes minutes."""
    unet, vae = setting.copies()
    unet.compile()
    return step_checkpointing(replace(setting, unet=unet, vae=vae))


def xformers_attention(setting: Setting) -> Images:
    """One checkpoint around each step, and the attention of xformers in the UNet.

    Raises:
        ImportError: xformers is not installed.
        ValueError: there is no CUDA device, from diffusers.
    """
    if importlib.util.find_spec("xformers") is None:
        raise ImportError("xformers is not installed: pip install 'diffexplain-fast[xformers]'")
    unet, vae = setting.copies()
    unet.enable_xformers_memory_efficient_attention()
    return step_checkpointing(replace(setting, unet=unet, vae=vae))


def frozen_convolutions(setting: Setting) -> Images:
    """Plain autograd whose convolutions keep no input for a gradient of the weight, as memsave patches them."""
    unet, vae = setting.copies()
    for module in (*unet.modules(), *vae.modules()):
        if isinstance(module, nn.Conv2d):
            module.forward = partial(_frozen_convolution, module)  # type: ignore[method-assign]
    return plain(replace(setting, unet=unet, vae=vae))


def _frozen_convolution(module: nn.Conv2d, x: Tensor) -> Tensor:
    return conv2d_frozen(x, module.weight, module.bias, int(module.stride[0]), int(module.padding[0]))


def block_checkpointing(setting: Setting) -> Images:
    """diffusers' own block checkpointing in UNet and VAE around a hand-written loop, as DiG-IN and ReNO do."""
    unet, vae = setting.copies()
    for model in (unet, vae):
        model.enable_gradient_checkpointing()
    return Loop(setting, unet, vae)


def hand_written(setting: Setting) -> Images:
    """Plain autograd through the loop as one writes it by hand."""
    return Loop(setting, setting.unet, setting.vae)


def graphed(setting: Setting) -> Images:
    """The hand-written loop with everything kept, as one CUDA graph forward and one backward.

    Raises:
        ValueError: the models are not on a CUDA device.
    """
    return Graphed(hand_written(setting), setting.device)


def dexter(setting: Setting) -> Images:
    """DEXTER's loop: unconditional rows also without guidance, weight gradients that nobody reads, and its gradient.

    Its gradient leaves out how each prediction depends on its input latents (arXiv 2510.14741).
    """
    unet, vae = (model.requires_grad_(True) for model in setting.copies())
    looped = Loop(setting, unet, vae, detached=True, always_guided=True)

    def images(embeds: Tensor, latents: Tensor) -> Tensor:
        for model in (unet, vae):
            model.zero_grad()
        return looped(embeds, latents)

    return images


def dexter_fixed(setting: Setting) -> Images:
    """DEXTER's loop with frozen models and no more rows than guidance needs."""
    return Loop(setting, setting.unet, setting.vae, detached=True)


def ours(setting: Setting) -> Sampled:
    """The fast engine without a memory limit."""
    return setting.sampler(backend="fast", memory=None)


def ours_lean(setting: Setting) -> Sampled:
    """The fast engine with one sample kept per step."""
    return setting.sampler(backend="fast", memory=None, gradient="checkpointed")


def ours_within(limit: int) -> Make:
    """Return what builds the fast engine under a byte limit.

    Args:
        limit: bytes, weights included.
    """

    def make(setting: Setting) -> Any:
        return setting.sampler(backend="fast", memory=limit)

    return make


OURS = "ours, everything kept"
PLAIN = "plain autograd"
RIVALS: dict[str, Make] = {
    PLAIN: plain,
    "diffusers block checkpointing": block_checkpointing,
    "per-step checkpointing": step_checkpointing,
    "channels-last per-step checkpointing": channels_last,
    "per-step checkpointing, compiled": compiled,
    "per-step checkpointing, xformers": xformers_attention,
    "hand-written loop": hand_written,
    "hand-written loop in one CUDA graph": graphed,
    "frozen convolutions patched": frozen_convolutions,
    "DEXTER's loop as published": dexter,
    "DEXTER's loop, trivial fixes": dexter_fixed,
    OURS: ours,
    "ours, one sample per step": ours_lean,
}
BASELINES = ("diffusers block checkpointing", PLAIN)
OTHER_GRADIENT = ("DEXTER's loop as published", "DEXTER's loop, trivial fixes")
HOLDING = ("hand-written loop in one CUDA graph",)
"""Rivals that hold the memory of a whole call from one iteration to the next, beside ours."""
ON_REQUEST = (
    "per-step checkpointing, compiled",
    "per-step checkpointing, xformers",
    "hand-written loop in one CUDA graph",
)
"""Rivals that are measured only when they are named: they take minutes, or need what is not everywhere."""
