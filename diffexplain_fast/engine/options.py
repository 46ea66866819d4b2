"""Options of a sampler by name, as type checkers see them where they are handed on."""

from collections.abc import Collection, Sequence
from typing import TypedDict

import torch

from diffexplain_fast.engine.gradients import GradientMode


class CommonOptions(TypedDict, total=False):
    """Arguments of ``DifferentiableSampler`` except models, scheduler, backend and memory; documented there."""

    num_inference_steps: int
    guidance_scale: float
    guidance_rescale: float
    timesteps: Sequence[float] | None
    sigmas: Sequence[float] | None
    eta: float
    gradient: GradientMode | str
    savings: str | Collection[str]
    cuda_graphs: bool | str
    deterministic: bool
    retry_dtype: torch.dtype | None
    host_memory: int | str | None
    reserve: int | str | None
    layout: str


class SamplerOptions(CommonOptions, total=False):
    """All arguments of ``DifferentiableSampler`` except models and scheduler."""

    backend: str
    memory: int | str | None
