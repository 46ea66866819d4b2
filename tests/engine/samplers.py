"""Samplers of tiny pipelines and prompts for them."""

from typing import Any

import torch
from torch import Tensor

from diffexplain_fast.engine.sampler import DifferentiableSampler
from tests.engine.plain import make_scheduler


def sampler_of(pipe: Any, kind: str = "ddim", **options: Any) -> DifferentiableSampler:
    """Return a sampler of two guided steps over a pipeline's modules."""
    options = {"num_inference_steps": 2, "guidance_scale": 3.0, **options}
    return DifferentiableSampler(unet=pipe.unet, vae=pipe.vae, scheduler=make_scheduler(kind), **options)


def embeds(batch: int = 1, width: int = 16, seed: int = 0, **options: Any) -> Tensor:
    """Return random prompt embeddings [batch, 5, width]."""
    return torch.randn((batch, 5, width), generator=torch.Generator().manual_seed(seed), **options)


def seed(number: int = 4) -> torch.Generator:
    """Return a fresh generator."""
    return torch.Generator().manual_seed(number)


def own_pictures(pipe: Any, prompt: Tensor, negative: Tensor, **options: Any) -> Tensor:
    """Return what the pipeline itself draws with a guidance scale of 3."""
    options = {"guidance_scale": 3.0, "output_type": "pt", "generator": seed(), **options}
    return pipe(prompt_embeds=prompt, negative_prompt_embeds=negative, **options).images
