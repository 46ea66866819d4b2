"""The denoising loop as one writes it by hand around diffusers' modules and scheduler."""

import copy
from typing import Any, cast

import torch
from torch import Tensor

from diffexplain_fast.measuring.bench.setting import Images, Setting


class Loop:
    """Images by a hand-written loop.

    Args:
        setting: options of the sampling, and the scheduler, which stays as it is.
        unet: called as it is.
        vae: called as it is.
        detached: leave out how each prediction depends on its input latents.
        always_guided: run unconditional rows also at guidance 1.
    """

    def __init__(
        self, setting: Setting, unet: Any, vae: Any, detached: bool = False, always_guided: bool = False
    ) -> None:
        self._setting, self._unet, self._vae, self._detached = setting, unet, vae, detached
        self._guided = always_guided or setting.guidance_scale != 1.0
        self._scheduler = copy.deepcopy(setting.scheduler)
        self._scheduler.set_timesteps(setting.steps)
        # The scheduler reads its time steps on the CPU, the UNet on its device: no step waits for a transfer.
        self._times = [(time, time.to(setting.device)) for time in self._scheduler.timesteps]
        self._added: dict[tuple[int, ...], Any] = {}

    def __call__(self, embeds: Tensor, latents: Tensor) -> Tensor:
        """Return images [B, 3, H, W] of prompt embeddings [B, L, d] and start noise [B, c, h, w]."""
        scheduler, scale = self._scheduler, self._setting.guidance_scale
        scheduler.set_timesteps(self._setting.steps)  # it counts its steps
        # What a sampler draws from when it is given no generator.
        generator = torch.Generator().manual_seed(torch.initial_seed())
        sample = latents * scheduler.init_noise_sigma
        text = torch.cat([self._setting.negative.expand_as(embeds), embeds]) if self._guided else embeds
        options = {"added_cond_kwargs": self._told(text, latents), "return_dict": False}
        for time, placed in self._times:
            rows = scheduler.scale_model_input(torch.cat([sample, sample]) if self._guided else sample, time)
            rows = rows.detach() if self._detached else rows
            output = self._unet(rows.to(embeds.dtype), placed, encoder_hidden_states=text, **options)[0]
            if self._guided:
                unconditional, conditional = output.chunk(2)
                output = unconditional + scale * (conditional - unconditional)
            sample = scheduler.step(output, time, sample, generator=generator, return_dict=False)[0]
        scaled = (sample / self._vae.config.scaling_factor).to(embeds.dtype)
        return self._vae.decode(scaled, return_dict=False)[0] / 2 + 0.5

    def _told(self, text: Tensor, latents: Tensor) -> Any:
        """What XL is told beside its text, made once for each shape."""
        factor = 2 ** (len(self._vae.config.block_out_channels) - 1)
        height, width = (factor * side for side in latents.shape[2:])
        key = (len(text), height, width)
        if key not in self._added:
            self._added[key] = self._setting.added(text, (height, width))
        return self._added[key]


class Graphed:
    """Images whose forward and backward are one CUDA graph each, captured at the first call.

    Args:
        images: what is captured.
        device: where the models are.

    Raises:
        ValueError: the models are not on a CUDA device.
    """

    def __init__(self, images: Images, device: torch.device) -> None:
        if device.type != "cuda":
            raise ValueError(f"a CUDA graph needs a CUDA device, and the models are on the {device.type}")
        self._images = images
        self._captured: Images | None = None

    def __call__(self, embeds: Tensor, latents: Tensor) -> Tensor:
        """Return images [B, 3, H, W], valid until the next call, of inputs shaped as at the first call."""
        if self._captured is None:
            samples = (embeds.detach().clone().requires_grad_(), latents.clone())
            self._captured = cast(Images, torch.cuda.make_graphed_callables(self._images, samples))
        return self._captured(embeds, latents)
