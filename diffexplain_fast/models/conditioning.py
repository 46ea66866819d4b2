"""What a pipeline hands to the sampler: the text that the denoiser reads, and how the pipeline is usually sampled."""

from typing import NamedTuple, TypedDict

from torch import Tensor


class Sampling(NamedTuple):
    """How a pipeline is sampled.

    Attributes:
        steps: denoising steps, at least 1.
        guidance_scale: at least 1.0, which means no unconditional row.
    """

    steps: int = 20
    guidance_scale: float = 7.5


OF_SCHEDULER = {"LCMScheduler": Sampling(4, 1.0)}
OF_PIPELINE = {"tinyworld": Sampling(8, 3.0)}
"""Usual sampling by class of scheduler, and by name of pipeline."""


class Conditioning(NamedTuple):
    """What the denoiser reads: hidden states [B, L, d] and, for Stable Diffusion XL, pooled text [B, p]."""

    prompt_embeds: Tensor
    pooled: Tensor | None


class Sizes(TypedDict, total=False):
    """The sizes [B, 6] that Stable Diffusion XL's denoiser reads, and those of the unconditional rows."""

    time_ids: Tensor
    negative_time_ids: Tensor
