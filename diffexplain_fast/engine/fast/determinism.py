"""Equal bits from equal calls: only algorithms that sum in a fixed order."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

from diffexplain_fast.engine.fast.runner import Runner
from diffexplain_fast.engine.settings import ALGORITHMS, CUDNN_BENCHMARK, CUDNN_DETERMINISTIC, FILL, held_settings

Settings = Callable[[], AbstractContextManager[None]]
"""Makes a context in which settings of torch are changed."""

_DETERMINISTIC = {
    ALGORITHMS: (True, False),
    FILL: False,  # kernels fill all memory that they allocate
    CUDNN_DETERMINISTIC: True,
    CUDNN_BENCHMARK: False,
}


def determinism(wanted: bool) -> AbstractContextManager[None]:
    """Return a context in which torch and cuDNN choose deterministic algorithms, or one that does nothing.

    cuDNN and TF32 stay on or off as they are. On a CUDA device torch needs CUBLAS_WORKSPACE_CONFIG in the environment,
    and its error says so.

    Args:
        wanted: True to make torch and cuDNN deterministic.
    """
    return held_settings(lambda: _DETERMINISTIC) if wanted else nullcontext()


class WithSettings:
    """Runs a call with some settings of torch changed.

    Args:
        runner: runs the call.
        settings: makes a context for the forward, and another for the backward.
    """

    def __init__(self, runner: Runner, settings: Settings) -> None:
        self._runner, self._settings = runner, settings

    def forward(self, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> Tensor:
        """Return images; see ``Runner``."""
        with self._settings():
            return self._runner.forward(start, text, shifts)

    def backward(self, dimages: Tensor) -> list[Tensor | None]:
        """Return gradients; see ``Runner``."""
        with self._settings():
            return self._runner.backward(dimages)
