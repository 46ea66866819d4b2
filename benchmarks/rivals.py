"""What people do today, and ours: images from prompt embeddings, built by one setup on the same weights and inputs."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import diffexplain_fast as dx

Images = Callable[[Tensor, Tensor], Tensor]
"""(prompt embeddings [B, L, d], start noise [B, c, h, w]) -> images [B, 3, H, W], about [0, 1]."""


@dataclass(frozen=True)
class Setting:
    """Models and sampling options that all rivals of a run share.

    Attributes:
        unet: frozen diffusers UNet.
        vae: frozen diffusers VAE.
        scheduler: diffusers scheduler.
        steps: denoising steps.
        guidance_scale: at least 1.
        negative: negative prompt embeddings [1, L, d].
        pooled: pooled text [1, p] of every row, for Stable Diffusion XL.
    """

    unet: Any
    vae: Any
    scheduler: Any
    steps: int
    guidance_scale: float
    negative: Tensor
    pooled: Tensor | None = None

    def added(self, text: Tensor, size: tuple[int, int]) -> dict[str, Tensor] | None:
        """Return what XL is told beside its text [B, L, d], for uncropped images of a size in pixels."""
        if self.pooled is None:
            return None
        time_ids = text.new_tensor([[*size, 0, 0, *size]])
        return {"text_embeds": self.pooled.expand(len(text), -1), "time_ids": time_ids.expand(len(text), -1)}

    def sampler(self, **options: Any) -> Images:
        """Return images of (prompt_embeds, latents) by our sampler with these options."""
        made = dx.DifferentiableSampler(
            unet=self.unet,
            vae=self.vae,
            scheduler=self.scheduler,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance_scale,
            **options,
        )

        def images(embeds: Tensor, latents: Tensor) -> Tensor:
            if self.pooled is None:
                return made(embeds, self.negative, latents=latents)
            pooled = {"pooled_prompt_embeds": self.pooled.expand(len(embeds), -1)}
            return made(embeds, self.negative, latents, negative_pooled_prompt_embeds=self.pooled, **pooled)

        images.sampler = made  # type: ignore[attr-defined]
        return images


def plain(setting: Setting) -> Images:
    """Plain autograd through eager diffusers: everything is stored."""
    return setting.sampler(backend="reference")


def step_checkpointing(setting: Setting) -> Images:
    """One torch checkpoint around each step and the decoder, as AlignProp does."""
    return setting.sampler(backend="reference", gradient="checkpointed")


def channels_last(setting: Setting) -> Images:
    """One checkpoint around each step, and the convolutions in the layout that suits them."""
    unet, vae = (model.to(memory_format=torch.channels_last) for model in _copies(setting))
    return step_checkpointing(replace(setting, unet=unet, vae=vae))


def compiled(setting: Setting) -> Images:
    """One checkpoint around each step, and the UNet compiled; the first call takes minutes."""
    unet, vae = _copies(setting)
    unet.compile()
    return step_checkpointing(replace(setting, unet=unet, vae=vae))


def frozen_convolutions(setting: Setting) -> Images:
    """Plain autograd whose convolutions keep no input for a gradient of the weight, as memsave patches them."""
    unet, vae = _copies(setting)
    for module in (*unet.modules(), *vae.modules()):
        if isinstance(module, nn.Conv2d):
            module.forward = partial(_frozen_convolution, module)  # type: ignore[method-assign]
    return plain(replace(setting, unet=unet, vae=vae))


def _frozen_convolution(module: nn.Conv2d, x: Tensor) -> Tensor:
    return dx.ops.conv2d_frozen(x, module.weight, module.bias, int(module.stride[0]), int(module.padding[0]))


def block_checkpointing(setting: Setting) -> Images:
    """diffusers' own block checkpointing in UNet and VAE around a hand-written loop, as DiG-IN and ReNO do."""
    unet, vae = _copies(setting)
    for model in (unet, vae):
        model.enable_gradient_checkpointing()
    return _loop(setting, unet, vae)


def dexter(setting: Setting) -> Images:
    """DEXTER's loop: unconditional rows also without guidance, weight gradients that nobody reads, and its gradient.

    Its gradient leaves out how each prediction depends on its input latents (arXiv 2510.14741).
    """
    unet, vae = (model.requires_grad_(True) for model in _copies(setting))
    looped = _loop(setting, unet, vae, detached=True, always_guided=True)

    def images(embeds: Tensor, latents: Tensor) -> Tensor:
        for model in (unet, vae):
            model.zero_grad()
        return looped(embeds, latents)

    return images


def dexter_fixed(setting: Setting) -> Images:
    """DEXTER's loop with frozen models and no more rows than guidance needs."""
    unet, vae = _copies(setting)
    return _loop(setting, unet, vae, detached=True)


def _copies(setting: Setting) -> tuple[Any, Any]:
    """The UNet and the VAE, to be changed."""
    unet, vae = (copy.deepcopy(model).eval().requires_grad_(False) for model in (setting.unet, setting.vae))
    return unet, vae


def _loop(setting: Setting, unet: Any, vae: Any, detached: bool = False, always_guided: bool = False) -> Images:
    """The loop as one writes it around diffusers' scheduler."""
    scheduler = copy.deepcopy(setting.scheduler)
    guided = always_guided or setting.guidance_scale != 1.0

    def images(embeds: Tensor, latents: Tensor) -> Tensor:
        scheduler.set_timesteps(setting.steps)
        # What a sampler draws from when it is given no generator.
        generator = torch.Generator().manual_seed(torch.initial_seed())
        sample = latents * scheduler.init_noise_sigma
        text = torch.cat([setting.negative.expand_as(embeds), embeds]) if guided else embeds
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        height, width = (factor * side for side in latents.shape[2:])
        options = {"added_cond_kwargs": setting.added(text, (height, width)), "return_dict": False}
        for timestep in scheduler.timesteps:
            rows = scheduler.scale_model_input(torch.cat([sample, sample]) if guided else sample, timestep)
            rows = rows.detach() if detached else rows
            output = unet(rows.to(embeds.dtype), timestep, encoder_hidden_states=text, **options)[0]
            if guided:
                unconditional, conditional = output.chunk(2)
                output = unconditional + setting.guidance_scale * (conditional - unconditional)
            sample = scheduler.step(output, timestep, sample, generator=generator, return_dict=False)[0]
        return vae.decode((sample / vae.config.scaling_factor).to(embeds.dtype), return_dict=False)[0] / 2 + 0.5

    return images


def ours(setting: Setting) -> Images:
    """The fast engine without a memory limit."""
    return setting.sampler(backend="fast", memory=None)


def ours_lean(setting: Setting) -> Images:
    """The fast engine with one sample kept per step."""
    return setting.sampler(backend="fast", memory=None, gradient="checkpointed")


RIVALS: dict[str, Callable[[Setting], Images]] = {
    "plain autograd": plain,
    "diffusers block checkpointing": block_checkpointing,
    "per-step checkpointing": step_checkpointing,
    "channels-last per-step checkpointing": channels_last,
    "per-step checkpointing, compiled": compiled,
    "frozen convolutions patched": frozen_convolutions,
    "DEXTER's loop as published": dexter,
    "DEXTER's loop, trivial fixes": dexter_fixed,
    "ours, everything kept": ours,
    "ours, one sample per step": ours_lean,
}
BASELINES = ("diffusers block checkpointing", "plain autograd")
OTHER_GRADIENT = ("DEXTER's loop as published", "DEXTER's loop, trivial fixes")
ON_REQUEST = ("per-step checkpointing, compiled",)
"""Rivals that are measured only when they are named, for they take minutes."""
