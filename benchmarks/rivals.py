"""What people do today, and ours: images from prompt embeddings, built by one setup on the same weights and inputs."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import diffexplain_fast as dx


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
    """

    unet: Any
    vae: Any
    scheduler: Any
    steps: int
    guidance_scale: float
    negative: Tensor

    def sampler(self, **options: Any) -> Callable[[Tensor, Tensor], Tensor]:
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
            return made(embeds, self.negative, latents=latents)

        images.sampler = made  # type: ignore[attr-defined]
        return images


def plain(setting: Setting) -> Callable[[Tensor, Tensor], Tensor]:
    """Plain autograd through eager diffusers: everything is stored."""
    return setting.sampler(backend="reference")


def step_checkpointing(setting: Setting) -> Callable[[Tensor, Tensor], Tensor]:
    """One torch checkpoint around each step and the decoder, as AlignProp does."""
    return setting.sampler(backend="reference", gradient="checkpointed")


def block_checkpointing(setting: Setting) -> Callable[[Tensor, Tensor], Tensor]:
    """diffusers' own block checkpointing in UNet and VAE around a hand-written loop, as DiG-IN and ReNO do."""
    unet, vae, scheduler = (copy.deepcopy(part) for part in (setting.unet, setting.vae, setting.scheduler))
    for model in (unet, vae):
        model.eval().requires_grad_(False).enable_gradient_checkpointing()
    scheduler.set_timesteps(setting.steps)
    guided = setting.guidance_scale != 1.0

    def images(embeds: Tensor, latents: Tensor) -> Tensor:
        sample = latents * scheduler.init_noise_sigma
        text = torch.cat([setting.negative.expand_as(embeds), embeds]) if guided else embeds
        for timestep in scheduler.timesteps:
            rows = scheduler.scale_model_input(torch.cat([sample, sample]) if guided else sample, timestep)
            output = unet(rows.to(embeds.dtype), timestep, encoder_hidden_states=text, return_dict=False)[0]
            if guided:
                unconditional, conditional = output.chunk(2)
                output = unconditional + setting.guidance_scale * (conditional - unconditional)
            sample = scheduler.step(output, timestep, sample, return_dict=False)[0]
        return vae.decode((sample / vae.config.scaling_factor).to(embeds.dtype), return_dict=False)[0] / 2 + 0.5

    return images


def detached(setting: Setting) -> Callable[[Tensor, Tensor], Tensor]:
    """DEXTER's gradient: each prediction's dependence on its input latents is left out."""
    return setting.sampler(backend="reference", gradient="detached")


def ours(setting: Setting) -> Callable[[Tensor, Tensor], Tensor]:
    """The fast engine without a memory limit."""
    return setting.sampler(backend="fast", memory=None)


def ours_lean(setting: Setting) -> Callable[[Tensor, Tensor], Tensor]:
    """The fast engine with one sample kept per step."""
    return setting.sampler(backend="fast", memory=None, gradient="checkpointed")


RIVALS: dict[str, Callable[[Setting], Callable[[Tensor, Tensor], Tensor]]] = {
    "plain autograd": plain,
    "diffusers block checkpointing": block_checkpointing,
    "per-step checkpointing": step_checkpointing,
    "detached (another gradient)": detached,
    "ours, everything kept": ours,
    "ours, one sample per step": ours_lean,
}
BASELINES = ("diffusers block checkpointing", "plain autograd")
OTHER_GRADIENT = ("detached (another gradient)",)
