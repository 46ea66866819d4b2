"""Runners of one call of the sampler: the interface, and the plain runner, operation by operation."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from diffexplain_fast.engine.fast.trajectory import Job, Trajectory


class Runner(Protocol):
    """Runs one call: forward once, then backward at most once; a second backward needs a runner of its own."""

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
        job: the call.
    """

    def __init__(self, job: Job) -> None:
        self._trajectory = Trajectory(job)

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
