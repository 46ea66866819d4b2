"""The ways in which people do it today, and ours: images from prompt embeddings, on the same weights and inputs."""

import copy
import importlib.util
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import cast

import torch
from torch import Tensor, nn

from diffexplain_fast.measuring.bench.workloads import Images, Sampled, Setting
from diffexplain_fast.ops import conv2d_frozen

Make = Callable[[Setting], Images]
"""Builds a rival; raises where it cannot run, and the reason goes into its row."""


class _Loop:
    """Images by the denoising loop as one writes it by hand around diffusers' modules and scheduler.

    ``detached`` leaves out how each prediction depends on its input latents, ``always_guided`` runs unconditional rows
    also at guidance 1.
    """

    def __init__(self, setting: Setting, detached: bool = False, always_guided: bool = False) -> None:
        self._setting, self._detached = setting, detached
        self._guided = always_guided or setting.guidance_scale != 1.0
        self._scheduler = copy.deepcopy(setting.scheduler)
        self._scheduler.set_timesteps(setting.steps)
        # The scheduler reads its time steps on the CPU, the UNet on its device: no step waits for a transfer.
        self._times = [(time, time.to(setting.device)) for time in self._scheduler.timesteps]
        self._added: dict[tuple[int, ...], dict[str, Tensor] | None] = {}

    def __call__(self, embeds: Tensor, latents: Tensor) -> Tensor:
        """Return images [B, 3, H, W] of prompt embeddings [B, L, d] and start noise [B, c, h, w]."""
        scheduler, setting = self._scheduler, self._setting
        scheduler.set_timesteps(setting.steps)  # it counts its steps
        # The random numbers of a sampler that is given no generator.
        generator = torch.Generator().manual_seed(torch.initial_seed())
        sample = latents * scheduler.init_noise_sigma
        text = torch.cat([setting.negative.expand_as(embeds), embeds]) if self._guided else embeds
        options = {"added_cond_kwargs": self._told(text, latents), "return_dict": False}
        for time, placed in self._times:
            rows = scheduler.scale_model_input(torch.cat([sample, sample]) if self._guided else sample, time)
            rows = rows.detach() if self._detached else rows
            output = setting.unet(rows.to(embeds.dtype), placed, encoder_hidden_states=text, **options)[0]
            if self._guided:
                unconditional, conditional = output.chunk(2)
                output = unconditional + setting.guidance_scale * (conditional - unconditional)
            sample = scheduler.step(output, time, sample, generator=generator, return_dict=False)[0]
        scaled = (sample / setting.vae.config.scaling_factor).to(embeds.dtype)
        return setting.vae.decode(scaled, return_dict=False)[0] / 2 + 0.5

    def _told(self, text: Tensor, latents: Tensor) -> dict[str, Tensor] | None:
        """The conditions of XL beside its text, made once for each shape."""
        factor = 2 ** (len(self._setting.vae.config.block_out_channels) - 1)
        height, width = (factor * side for side in latents.shape[2:])
        key = (len(text), height, width)
        if key not in self._added:
            self._added[key] = self._setting.added(text, (height, width))
        return self._added[key]


def plain(setting: Setting) -> Images:
    """Plain autograd through eager diffusers: everything is stored."""
    return setting.sampler(backend="reference")


def step_checkpointing(setting: Setting) -> Images:
    """One torch checkpoint around each step and the decoder, as AlignProp does."""
    return setting.sampler(backend="reference", gradient="checkpointed")


def _on_copies(draw: Make, change: Callable[..., object], setting: Setting) -> Images:
    """Images by ``draw`` with copies of UNet and VAE, which ``change`` changes one after the other."""
    own = setting.copied()
    for model in (own.unet, own.vae):
        change(model)
    return draw(own)


def _freeze_convolutions(model: nn.Module) -> None:
    """Let convolutions keep no input for a gradient of the weight, as memsave patches them."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.forward = partial(_frozen_convolution, module)  # type: ignore[method-assign]


def _frozen_convolution(module: nn.Conv2d, x: Tensor) -> Tensor:
    return conv2d_frozen(x, module.weight, module.bias, int(module.stride[0]), int(module.padding[0]))


def _compiled(setting: Setting) -> Images:
    """One checkpoint around each step, and the UNet compiled; the first call takes minutes."""
    own = setting.copied()
    own.unet.compile()
    return step_checkpointing(own)


def _xformers_attention(setting: Setting) -> Images:
    """One checkpoint around each step, and the attention of xformers in the UNet; without CUDA diffusers refuses."""
    if importlib.util.find_spec("xformers") is None:
        raise ImportError("xformers is not installed: pip install 'diffexplain-fast[xformers]'")
    own = setting.copied()
    own.unet.enable_xformers_memory_efficient_attention()
    return step_checkpointing(own)


def _in_one_graph(setting: Setting) -> Images:
    """The hand-written loop with everything kept, as one CUDA graph forward and one backward, from the first call on.

    Its images are valid until the next call, whose inputs are shaped as at the first.
    """
    if setting.device.type != "cuda":
        raise ValueError(f"a CUDA graph needs a CUDA device, and the models are on the {setting.device.type}")
    loop, captured = _Loop(setting), list[Images]()

    def images(embeds: Tensor, latents: Tensor) -> Tensor:
        if not captured:
            samples = (embeds.detach().clone().requires_grad_(), latents.clone())
            captured.append(cast(Images, torch.cuda.make_graphed_callables(loop, samples)))
        return captured[0](embeds, latents)

    return images


def _dexter(setting: Setting) -> Images:
    """DEXTER's loop: unconditional rows also without guidance, weight gradients that nobody reads, and its gradient.

    Its gradient leaves out how each prediction depends on its input latents (arXiv 2510.14741).
    """
    own = setting.copied()
    looped = _Loop(own, detached=True, always_guided=True)

    def images(embeds: Tensor, latents: Tensor) -> Tensor:
        for model in (own.unet, own.vae):
            model.requires_grad_(True).zero_grad()
        return looped(embeds, latents)

    return images


def ours(setting: Setting) -> Sampled:
    """The fast engine without a memory limit."""
    return setting.sampler(backend="fast", memory=None)


def ours_lean(setting: Setting) -> Sampled:
    """The fast engine with one sample kept per step."""
    return setting.sampler(backend="fast", memory=None, gradient="checkpointed")


def ours_within(limit: int) -> Make:
    """Return what builds the fast engine under a limit in bytes, weights included."""
    return lambda setting: setting.sampler(backend="fast", memory=limit)


OURS = "ours, everything kept"
PLAIN = "plain autograd"
RIVALS: dict[str, Make] = {
    PLAIN: plain,
    # diffusers' own, in UNet and VAE, around a hand-written loop, as DiG-IN and ReNO do
    "diffusers block checkpointing": partial(_on_copies, _Loop, methodcaller("enable_gradient_checkpointing")),
    "per-step checkpointing": step_checkpointing,
    "channels-last per-step checkpointing": partial(
        _on_copies, step_checkpointing, methodcaller("to", memory_format=torch.channels_last)
    ),
    "per-step checkpointing, compiled": _compiled,
    "per-step checkpointing, xformers": _xformers_attention,
    "hand-written loop": _Loop,  # plain autograd
    "hand-written loop in one CUDA graph": _in_one_graph,
    "frozen convolutions patched": partial(_on_copies, plain, _freeze_convolutions),
    "DEXTER's loop as published": _dexter,
    "DEXTER's loop, trivial fixes": partial(_Loop, detached=True),  # frozen models, no more rows than guidance needs
    OURS: ours,
    "ours, one sample per step": ours_lean,
}
BASELINES = ("diffusers block checkpointing", PLAIN)
OTHER_GRADIENT = ("DEXTER's loop as published", "DEXTER's loop, trivial fixes")
HOLDING = ("hand-written loop in one CUDA graph",)
"""Rivals that hold the memory of a whole call from one iteration to the next, beside ours."""
ON_REQUEST = ("per-step checkpointing, compiled", "per-step checkpointing, xformers", *HOLDING)
"""Rivals that are measured only when they are named: they take minutes, or need what is not everywhere."""
