"""A sampler in place of a pipeline's call."""

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
        A sampler: whatever differentiates through the pipeline calls it in its place.

    Raises:
        TypeError: ``pipe`` lacks a part, or an option of the wrong kind.
        ValueError: a pipeline that draws from more than text, or an option out of range.
    """
    return DifferentiableSampler.from_pipe(pipe, backend=backend, memory=memory, **options)
