"""How far an attribution is: rows of the denoiser while concepts are edited one by one, then pictures."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.runs.progress import Phase, Progress, counter

_Picture = TypeVar("_Picture")


class Telling:
    """Tells a callback how far an attribution is.

    Args:
        models: run the denoiser.
        callback: receives a ``Progress``; None to tell nobody.

    Attributes:
        rows: about how many the denoiser runs for the edits of one picture.
    """

    def __init__(self, models: LatentModels, callback: Callable[[Progress], None] | None) -> None:
        self._models, self._callback, self.rows = models, callback, 0

    def edits(self, pictures: Sequence[_Picture]) -> Iterator[_Picture]:
        """Yield pictures whose concepts are edited, and tell of every batch of the denoiser meanwhile.

        Args:
            pictures: in their order.
        """
        report, began = counter(self._callback, "edit"), self._models.denoiser_rows
        try:
            for turn, picture in enumerate(pictures):
                before, left = self._models.denoiser_rows - began, len(pictures) - turn

                def tell(before: int = before, left: int = left) -> None:
                    done = self._models.denoiser_rows - began
                    report(done, max(done, before + self.rows * left))

                self._models.after_batch = tell
                yield picture
        finally:
            self._models.after_batch = None

    def each(self, phase: Phase, pictures: Sequence[_Picture]) -> Iterator[_Picture]:
        """Yield pictures, and tell of each that is done.

        Args:
            phase: what is done with them.
            pictures: in their order.
        """
        report = counter(self._callback, phase)
        for done, picture in enumerate(pictures):
            report(done, len(pictures))
            yield picture
        report(len(pictures), len(pictures))
