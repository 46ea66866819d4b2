"""A fast sampler for a pipeline."""

from typing import TYPE_CHECKING, Unpack

from diffexplain_fast.engine.options import CommonOptions
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.models.pipeline import Pipeline

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def accelerate(
    pipe: "DiffusionPipeline | Pipeline",
    memory: int | str | None = "auto",
    *,
    backend: str = "fast",
    **options: Unpack[CommonOptions],
) -> DifferentiableSampler:
    """Return a fast sampler for a pipeline, which stays as it is.

    Args:
        pipe: a diffusers text-to-image pipeline or a ``Pipeline``; see ``DifferentiableSampler.from_pipe``.
        memory: limit of all bytes, weights included, such as "8GiB"; see ``DifferentiableSampler``.
        backend: see ``DifferentiableSampler``.
        **options: as in ``DifferentiableSampler``.

    Returns:
        A sampler, to be called in place of the pipeline by code that differentiates through the pipeline.

    Raises:
        TypeError: ``pipe`` lacks a component, or an option has the wrong kind.
        ValueError: a pipeline that draws from more than text, or an option out of range.
    """
    return DifferentiableSampler.from_pipe(pipe, backend=backend, memory=memory, **options)
