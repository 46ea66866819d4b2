"""Schedulers by short names, for pipelines with a scheduler that the sampler refuses, such as PNDM."""

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
    """Load a pipeline, and replace its scheduler by another scheduler with the same noise levels.

    Args:
        source: hub id, local folder, or "tinyworld"; see ``load_pipeline``.
        name: key of ``SCHEDULERS``; None for the pipeline's own scheduler.
        dtype: dtype of the loaded weights.
        device: device of the loaded weights, the CPU if None.

    Returns:
        The pipeline; with a name, its scheduler is one that ``Schedule.from_scheduler`` tabulates.

    Raises:
        UnknownNameError: an unknown scheduler; nothing is loaded.
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
    """Return a scheduler of another class with the same configuration, and the options that the sampler needs."""
    import diffusers  # takes seconds

    scheduler_class = getattr(diffusers, kind)
    # The new configuration contains the whole old one, including options that the class does not know.
    config = {key: OPTIONS.get(key, value) for key, value in scheduler.config.items()}
    parameters = inspect.signature(scheduler_class).parameters
    return scheduler_class.from_config(config, **{key: value for key, value in OPTIONS.items() if key in parameters})
