"""The progress of a long run, for a callback."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Phase = Literal[
    "screen",
    "search",
    "optimise",
    "name",
    "evaluate",
    "draw",
    "again",
    "own",
    "pairs",
    "found",
    "photographs",
    "interventions",
    "edit",
    "placebo",
    "joint",
    "flip",
    "train",
    "measure",
]
"""What a long run is doing."""


@dataclass(frozen=True)
class Progress:
    """The value that a callback receives.

    Attributes:
        phase: of an explanation "screen", "search", "optimise", "name" for words of what was found, or "evaluate"; of
            an audit "screen" for choosing words, "draw", "again" for pictures drawn a second time, "own" for pictures
            of classes' own objects, "pairs" for fresh pictures of two concepts, "found" for those of found tokens,
            "photographs" for the user's own pictures, or "interventions" for pairs of pictures; of an attribution
            "edit", of which a step is a row of the denoiser, "placebo" for edits that change nothing, "joint" for two
            concepts at once, or "flip" for counterfactuals, of which a step is a picture; of a classifier with planted
            shortcuts "train", or "measure" for its truth.
        iteration: number of finished steps of this phase.
        iterations: largest number of steps of this phase.
        loss: loss of the last step, None outside "optimise".
        logit: mean target logit of the last step, None outside "optimise".
        seconds_left: estimated seconds until the end of this phase.
    """

    phase: Phase
    iteration: int
    iterations: int
    loss: float | None = None
    logit: float | None = None
    seconds_left: float = 0.0


def counter(callback: Callable[[Progress], None] | None, phase: Phase) -> Callable[[int, int], None]:
    """Return a function of the number of finished steps and of all steps, which calls a callback.

    Args:
        callback: function that receives a ``Progress``, or None.
        phase: see ``Progress``.
    """
    began = time.perf_counter()

    def report(done: int, total: int) -> None:
        if callback is not None:
            each = (time.perf_counter() - began) / max(done, 1)
            callback(Progress(phase, done, total, seconds_left=each * (total - done)))

    return report
