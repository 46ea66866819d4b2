"""The trajectory as one autograd node: whatever differentiates its images runs its backward."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from diffexplain_fast.engine.fast.trajectory import Job, Trajectory
from diffexplain_fast.models.watch import Watch
from diffexplain_fast.ops._autocast import without_autocast
from diffexplain_fast.ops._autograd import first_order


class Runner(Protocol):
    """What runs one call: forward once, then backward at most once."""

    @property
    def first_unconditional(self) -> Tensor | None:
        """Prediction of the unconditional rows at the first step, once it is known."""

    def forward(self, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> Tensor:
        """Return images; arguments as in ``Trajectory.forward``.

        Raises:
            NonFiniteError: a part is not finite in float16.
        """

    def backward(self, dimages: Tensor) -> list[Tensor | None]:
        """Return gradients as ``Trajectory.backward`` does.

        Raises:
            NonFiniteError: a part is not finite in float16.
        """


class Eager:
    """A trajectory run operation by operation.

    Args:
        job: what to run.
    """

    def __init__(self, job: Job) -> None:
        self._trajectory = Trajectory(job)

    @property
    def first_unconditional(self) -> Tensor | None:
        """Prediction of the unconditional rows at the first step, once it is known."""
        return self._trajectory.first_unconditional

    def forward(self, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> Tensor:
        """Return images; see ``Runner``."""
        images, finite = self._trajectory.forward(start, text, shifts)
        finite.check()
        return images

    def backward(self, dimages: Tensor) -> list[Tensor | None]:
        """Return gradients; see ``Runner``."""
        grads, finite = self._trajectory.backward(dimages)
        finite.check()
        return grads


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
