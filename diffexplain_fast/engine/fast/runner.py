"""Runners of one call of the sampler: the interface, and the plain runner, operation by operation."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from diffexplain_fast.engine.fast.trajectory import Job, Trajectory
from diffexplain_fast.models.watch import Watch


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


class OwnModules:
    """Runs a call through the user's own modules, whose hooks may store or count something in the modules.

    Args:
        runner: runs the call.
        watch: notices edits of the models; what the call itself writes is none.
    """

    def __init__(self, runner: Runner, watch: Watch) -> None:
        self._runner, self._watch = runner, watch

    def forward(self, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> Tensor:
        """Return images; see ``Runner``."""
        images = self._runner.forward(start, text, shifts)
        self._watch.ran(again=True)
        return images

    def backward(self, dimages: Tensor) -> list[Tensor | None]:
        """Return gradients; see ``Runner``."""
        grads = self._runner.backward(dimages)
        self._watch.ran(again=True)
        return grads
