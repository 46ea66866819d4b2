"""The values that a pipeline hands to the sampler: encoded text, sizes, and its usual sampling."""

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor


class Sampling(NamedTuple):
    """The usual sampling of a pipeline.

    Attributes:
        steps: denoising steps, at least 1.
        guidance_scale: at least 1.0; 1.0 means no guidance and no unconditional row.
    """

    steps: int = 20
    guidance_scale: float = 7.5


OF_SCHEDULER = {"LCMScheduler": Sampling(4, 1.0)}
OF_PIPELINE = {"tinyworld": Sampling(8, 4.0)}
"""Usual sampling by the class of a scheduler and by the name of a pipeline."""


class Conditioning(NamedTuple):
    """Encoded text for the denoiser: hidden states [B, L, d] and, for Stable Diffusion XL, pooled text [B, p]."""

    prompt_embeds: Tensor
    pooled: Tensor | None


def joined(parts: Sequence[Conditioning]) -> Conditioning:
    """Return the rows of conditionings of one pipeline, at least one, after each other."""
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return Conditioning(torch.cat([part.prompt_embeds for part in parts]), torch.cat(pooled) if pooled else None)


class Sizes(TypedDict, total=False):
    """The sizes [B, 6] that Stable Diffusion XL's denoiser reads, for the conditional and the unconditional rows."""

    time_ids: Tensor
    negative_time_ids: Tensor
