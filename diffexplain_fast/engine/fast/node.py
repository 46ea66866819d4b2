"""The trajectory as one autograd node: whatever differentiates its images runs its backward."""

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import torch
from torch import Tensor

from diffexplain_fast.engine.fast.trajectory import Job, Trajectory
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


def without_autocast(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function compute in the dtypes of its tensors, whatever ``torch.autocast`` is on around it."""

    @functools.wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        with ExitStack() as stack:
            for device in ("cpu", "cuda"):
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            return function(*arguments, **options)

    return wrapper


def sample_images(runner: Runner, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> Tensor:
    """Run a call; images [B, 3, H, W] with one autograd node before them.

    Args:
        runner: runs it.
        start: as in ``Trajectory.forward``.
        text: as there.
        shifts: as there.
    """
    return _Sampled.apply(runner, len(text), start, *text, *shifts)


class _Sampled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, runner: Runner, count: int, start: Tensor, *inputs: Tensor) -> Tensor:
        ctx.runner = runner
        return runner.forward(start, inputs[:count], inputs[count:])

    @staticmethod
    @first_order
    @without_autocast
    def backward(ctx: Any, dimages: Tensor) -> tuple[Tensor | None, ...]:
        runner, ctx.runner = ctx.runner, None
        if runner is None:
            raise RuntimeError("the sampler's backward ran before and freed what it kept; call the sampler again")
        return None, None, *runner.backward(dimages)
