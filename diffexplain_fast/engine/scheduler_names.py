"""Schedulers by short names, for pipelines whose own the sampler refuses, such as PNDM of Stable Diffusion 1.x."""

import copy
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from diffexplain_fast.engine.schedules import OPTIONS
from diffexplain_fast.errors import unknown_name
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "lcm": "LCMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpm": "DPMSolverMultistepScheduler",
}
"""The diffusers class of each name."""


def load_with_scheduler(
    source: str | Path,
    name: str | None,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device | None = None,
) -> Pipeline:
    """Load a pipeline, with another scheduler of the same noise levels in place of its own.

    Args:
        source: hub id, local folder, or "tinyworld"; see ``load_pipeline``.
        name: key of ``SCHEDULERS``; None for the pipeline's own.
        dtype: of the loaded weights.
        device: where to put them, the CPU if None.

    Returns:
        The pipeline; where a name is given, its scheduler is one that ``Schedule.from_scheduler`` tabulates.

    Raises:
        UnknownNameError: no such scheduler; nothing was loaded.
        ValueError: see ``load_pipeline``.
    """
    if name is not None and name not in SCHEDULERS:
        raise unknown_name("scheduler", name, SCHEDULERS)
    pipeline = load_pipeline(source, dtype=dtype, device=device)
    if name is None:
        return pipeline
    changed = copy.copy(pipeline)
    changed.scheduler = _same_noise(SCHEDULERS[name], pipeline.scheduler)
    return changed


def _same_noise(kind: str, scheduler: "SchedulerMixin") -> "SchedulerMixin":
    """A scheduler of another class with a scheduler's configuration, and the options that the sampler asks for."""
    import diffusers  # takes seconds

    made = getattr(diffusers, kind)
    # The old configuration stays in the new one, options that the class does not know included.
    kept = {key: OPTIONS.get(key, value) for key, value in scheduler.config.items()}
    known = inspect.signature(made).parameters
    return made.from_config(kept, **{key: value for key, value in OPTIONS.items() if key in known})
