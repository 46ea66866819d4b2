"""A workload of a tiny Stable Diffusion, which benchmarks are tested on."""

from collections.abc import Callable
from typing import Any

import torch

from diffexplain_fast.measuring.bench.workloads import Setting, Workload
from tests.tiny import CONTEXT, LATENT_SIZE, tiny_classifier, tiny_sd


def tiny_workload(device: torch.device, dtype: torch.dtype, make: Callable[[], Any] = tiny_sd) -> Workload:
    """Return 3 steps at guidance 3 and a classifier's first logit, in float32 on the CPU whatever is asked."""
    pipe, classifier = make(), tiny_classifier().requires_grad_(False)
    for model in (pipe.unet, pipe.vae):
        model.requires_grad_(False)
    width = pipe.unet.config.cross_attention_dim
    xl = getattr(pipe, "text_encoder_2", None)
    pooled = None if xl is None else torch.randn(1, xl.config.projection_dim)
    setting = Setting(pipe.unet, pipe.vae, pipe.scheduler, 3, 3.0, torch.randn(1, CONTEXT, width), pooled)
    return Workload(
        setting,
        lambda embeds: embeds,
        torch.randn(1, CONTEXT, width),
        (4, LATENT_SIZE, LATENT_SIZE),
        1,
        lambda images: -classifier(images)[:, 0].mean(),
    )
