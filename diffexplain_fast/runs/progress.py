"""What a callback hears of a long run."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """What a callback receives.

    Attributes:
        phase: "screen", "search", "optimise" or "evaluate".
        iteration: steps of this phase that are done.
        iterations: steps this phase takes at most.
        loss: loss of the last step, None outside "optimise".
        logit: mean target logit of the last step, None outside "optimise".
        seconds_left: estimate for this phase.
    """

    phase: str
    iteration: int
    iterations: int
    loss: float | None = None
    logit: float | None = None
    seconds_left: float = 0.0


def counter(callback: Callable[[Progress], None] | None, phase: str) -> Callable[[int, int], None]:
    """Return a function of what is done and of all there is, which tells a callback.

    Args:
        callback: receives a ``Progress``; None for nobody.
        phase: see ``Progress``.
    """
    began = time.perf_counter()

    def report(done: int, total: int) -> None:
        if callback is not None:
            each = (time.perf_counter() - began) / max(done, 1)
            callback(Progress(phase, done, total, seconds_left=each * (total - done)))

    return report
