"""Random numbers of a call, in the order in which they are drawn: the start noise, then the noise of every step."""

import torch
from torch import Tensor

from diffexplain_fast.engine.checks import check_tensor
from diffexplain_fast.engine.schedules import Schedule


def start_noise(
    latents: Tensor | None,
    batch: int,
    channels: int,
    size: int | tuple[int, int],
    generator: torch.Generator,
    weight: Tensor,
) -> Tensor:
    """Return start noise [batch, channels, h, w] in single precision or better, in which samples are kept.

    Args:
        latents: noise of the caller, used in place of drawn noise; None to draw it.
        batch: images.
        channels: channels of the latents.
        size: height and width of drawn latents, or one number for both.
        generator: on the CPU.
        weight: a weight of the UNet, for dtype and device.

    Raises:
        TypeError: ``latents`` is not a tensor.
        ValueError: ``latents`` of another shape, dtype or device.
    """
    dtype = torch.promote_types(weight.dtype, torch.float32)
    if latents is not None:
        check_tensor("latents", latents, (batch, channels, "h", "w"), weight)
        return latents.to(dtype)
    height, width = (size, size) if isinstance(size, int) else size
    drawn = torch.randn((batch, channels, height, width), generator=generator, dtype=dtype)
    return drawn.to(weight.device)


def step_noises(schedule: Schedule, start: Tensor, generator: torch.Generator) -> list[Tensor | None]:
    """Return the fresh noise of every step, None for a step that adds none.

    Args:
        schedule: its steps say which add noise.
        start: start noise [B, c, h, w]; the noise of a step has its shape, dtype and device.
        generator: on the CPU.
    """
    drawn = (
        torch.randn(start.shape, generator=generator, dtype=start.dtype) if step.noise else None
        for step in schedule.steps
    )
    return [None if noise is None else noise.to(start.device) for noise in drawn]
