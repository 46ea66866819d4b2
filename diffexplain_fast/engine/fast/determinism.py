"""Equal bits from equal calls: only algorithms that sum in a fixed order."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from diffexplain_fast.engine.fast.runner import Runner


def determinism(wanted: bool) -> AbstractContextManager[None]:
    """Return a context in which torch and cuDNN choose deterministic algorithms, or one that does nothing.

    On a CUDA device torch asks for CUBLAS_WORKSPACE_CONFIG in the environment, and says so.

    Args:
        wanted: the first.
    """
    return _deterministic() if wanted else nullcontext()


@contextmanager
def _deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fills = memory.fill_uninitialized_memory
    try:
        torch.use_deterministic_algorithms(True)
        # What the kernels allocate they fill themselves.
        memory.fill_uninitialized_memory = False
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True):
            yield
    finally:
        memory.fill_uninitialized_memory = fills
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


class Deterministic:
    """Runs a call with deterministic algorithms.

    Args:
        runner: runs it.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def forward(self, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> Tensor:
        """Return images; see ``Runner``."""
        with determinism(True):
            return self._runner.forward(start, text, shifts)

    def backward(self, dimages: Tensor) -> list[Tensor | None]:
        """Return gradients; see ``Runner``."""
        with determinism(True):
            return self._runner.backward(dimages)
