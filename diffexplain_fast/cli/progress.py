"""Progress bars with the time left, driven by the callback of an explanation."""

from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from diffexplain_fast.runs.progress import Progress

_PHASES = {
    "screen": "choosing a start",
    "search": "searching",
    "optimise": "optimising",
    "evaluate": "scoring",
    "draw": "drawing",
    "own": "drawing own objects",
    "pairs": "drawing pairs",
}


class ProgressBars:
    """One bar per phase of an explanation; a context manager, and the ``callback`` of ``Explainer.explain``.

    Args:
        name: text in front of every bar.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._phase: str | None = None
        self._bar: tqdm | None = None

    def __enter__(self) -> "ProgressBars":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, event: "Progress") -> None:
        if self._bar is None or event.phase != self._phase:
            if self._bar is not None:
                self._bar.close()
            self._phase = event.phase
            # A resumed run begins in the middle; its earlier steps must not count in the estimate of the time left.
            self._bar = tqdm(
                initial=event.iteration - 1,
                total=event.iterations,
                desc=f"{self.name}: {_PHASES.get(event.phase, event.phase)}",
                mininterval=0.5,
                leave=False,
            )
        self._bar.total = event.iterations
        if event.loss is not None:
            self._bar.set_postfix(loss=f"{event.loss:.3f}", refresh=False)
        self._bar.update(event.iteration - self._bar.n)
