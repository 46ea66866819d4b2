"""What an iteration is measured on: models, prompt, latents and target, of a public configuration or the tiny world."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, LCMScheduler
from torch import Tensor, nn

import diffexplain_fast as dx
from benchmarks.rivals import Setting
from diffexplain_fast.models.public import PUBLIC, public_models

_SIGNAL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@dataclass(frozen=True)
class Workload:
    """One kind of iteration.

    Attributes:
        setting: models and sampling options.
        embeds: soft tokens [n, d] (or embeddings) that are optimised -> prompt embeddings [B, L, d].
        start: where the optimisation starts.
        latents: noise of image number i, [B, c, h, w].
        loss: images -> scalar.
    """

    setting: Setting
    embeds: Callable[[Tensor], Tensor]
    start: Tensor
    latents: Callable[[int], Tensor]
    loss: Callable[[Tensor], Tensor]

    def with_steps(self, steps: int) -> "Workload":
        """Return the same workload with another number of steps."""
        return replace(self, setting=replace(self.setting, steps=steps))


def noise(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Callable[[int], Tensor]:
    """Return standard normal noise of a shape as a function of its seed."""

    def draw(number: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(number)).to(device, dtype)

    return draw


def tinyworld(device: torch.device, dtype: torch.dtype) -> Workload:
    """Tinyworld as an explanation runs it: 8 DDIM steps, guidance 3, 2 images, 3 soft tokens, a classifier."""
    classifier = dx.Classifier.from_pretrained("tinyworld/background")
    pipeline = dx.Explainer("tinyworld", classifier).pipeline
    with torch.no_grad():
        negative = pipeline.encode_text([""]).prompt_embeds
        start = pipeline.token_embeddings("a red boat").detach()
    setting = Setting(pipeline.unet, pipeline.vae, pipeline.scheduler, 8, 3.0, negative)
    label = classifier.label_index("fish")
    return Workload(
        setting,
        lambda soft: pipeline.encode_soft(soft).prompt_embeds.expand(2, -1, -1),
        start,
        noise((2, *pipeline.latent_shape), dtype, device),
        lambda images: -classifier(images.clamp(0, 1)).log_softmax(1)[:, label].mean(),
    )


def public(
    device: torch.device,
    dtype: torch.dtype,
    *,
    model: str,
    scheduler: Callable[[], Any],
    steps: int,
    guidance_scale: float,
) -> Workload:
    """One image of a public configuration with random weights, whose prompt embeddings are optimised.

    Args:
        device: of everything.
        dtype: of everything.
        model: key of ``PUBLIC``.
        scheduler: makes a diffusers scheduler.
        steps: denoising steps.
        guidance_scale: at least 1.
    """
    torch.manual_seed(0)
    # As diffusers loads them; another layout is a rival's choice.
    models = public_models(model, dtype, device)
    unet, vae = (each.to(memory_format=torch.contiguous_format) for each in models)
    side, text = unet.config.sample_size, (1, PUBLIC[model].tokens, unet.config.cross_attention_dim)
    pooled = None
    if unet.config.addition_embed_type is not None:
        width = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
        pooled = torch.randn(1, width).to(device, dtype)
    negative, start = (torch.randn(text).to(device, dtype) for _ in range(2))
    head = nn.Sequential(nn.Conv2d(3, 32, 7, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    head = head.to(device, dtype).eval().requires_grad_(False)
    return Workload(
        Setting(unet, vae, scheduler(), steps, guidance_scale, negative, pooled),
        lambda embeds: embeds,
        start,
        noise((1, unet.config.in_channels, side, side), dtype, device),
        lambda images: -head(images).log_softmax(1)[:, 0].mean(),
    )


_DDIM = partial(DDIMScheduler, **_SIGNAL, clip_sample=False)
_LCM = partial(LCMScheduler, **_SIGNAL, clip_sample=False)
_EULER = partial(EulerDiscreteScheduler, **_SIGNAL, timestep_spacing="trailing")
_SD21 = partial(_DDIM, prediction_type="v_prediction")
WORKLOADS: dict[str, Callable[[torch.device, torch.dtype], Workload]] = {
    "tinyworld": tinyworld,
    "sd15": partial(public, model="sd15", scheduler=_DDIM, steps=20, guidance_scale=7.5),
    "sd15-50": partial(public, model="sd15", scheduler=_DDIM, steps=50, guidance_scale=7.5),
    "sd15-lcm4": partial(public, model="sd15", scheduler=_LCM, steps=4, guidance_scale=1.0),
    "sd21": partial(public, model="sd21", scheduler=_SD21, steps=20, guidance_scale=7.5),
    "sdxl-4": partial(public, model="sdxl", scheduler=_EULER, steps=4, guidance_scale=1.0),
}
"""Stable Diffusion 1.5 at 512 pixels, 2.1 at 768 and XL at 1024; "sd15" has 20 steps, as "sd21"."""
