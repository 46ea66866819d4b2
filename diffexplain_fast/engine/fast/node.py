"""The trajectory as one autograd node: whatever differentiates its images runs its backward."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffexplain_fast.engine.fast.runner import Runner
from diffexplain_fast.models.watch import Watch
from diffexplain_fast.ops._autocast import without_autocast
from diffexplain_fast.ops._autograd import first_order


def sample_images(
    runner: Runner, watch: Watch, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]
) -> Tensor:
    """Run a call; images [B, 3, H, W] with one autograd node before them.

    Args:
        runner: runs it.
        watch: the models as they are; if they are edited before the backward, that raises.
        start: as in ``Trajectory.forward``.
        text: as there.
        shifts: as there.
    """
    return _Sampled.apply(runner, watch, len(text), start, *text, *shifts)


class _Sampled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, runner: Runner, watch: Watch, count: int, start: Tensor, *inputs: Tensor) -> Tensor:
        ctx.runner, ctx.watch = runner, watch
        ctx.save_for_backward(start, *inputs)  # to notice a change in place, and for a second derivative to raise
        return runner.forward(start, inputs[:count], inputs[count:])

    @staticmethod
    @first_order
    @without_autocast
    def backward(ctx: Any, dimages: Tensor) -> tuple[Tensor | None, ...]:
        runner, ctx.runner, _ = ctx.runner, None, ctx.saved_tensors
        if runner is None:
            raise RuntimeError("the sampler's backward ran before and freed what it kept; call the sampler again")
        if ctx.watch.touched():
            raise RuntimeError(
                "the UNet or the VAE was edited between the sampler's call and its backward; call the sampler again"
            )
        return None, None, None, *runner.backward(dimages)
