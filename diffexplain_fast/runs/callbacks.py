"""Callbacks that write a run into the dashboards that many people have already: TensorBoard, and Weights & Biases."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from PIL import Image

from diffexplain_fast.environment import extra
from diffexplain_fast.errors import wrong_type
from diffexplain_fast.given_files import given_path
from diffexplain_fast.runs.progress import Progress
from diffexplain_fast.storage import storage_error

if TYPE_CHECKING:
    from diffexplain_fast.results.explanation import Explanation

__all__ = ["TensorBoard", "WandB"]


class _Dashboard(ABC):
    """A ``callback`` of a run, and a context manager; one for each run, because its steps count from 1."""

    _results = 0
    """How many results were added."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._end(failed=kind is not None)

    def close(self) -> None:
        """Finish the run; all that was written is then on the disk."""
        self._end(failed=False)

    def __call__(self, progress: Progress) -> None:
        """Write one event of a run: the share of its phase that is done and, where there are any, loss and logit."""
        values = {"done": progress.iteration / max(progress.iterations, 1), "loss": progress.loss}
        values["logit"] = progress.logit
        said = {f"{progress.phase}/{name}": value for name, value in values.items() if value is not None}
        self._numbers(said, progress.phase, progress.iteration)

    def add(self, explanation: "Explanation") -> None:
        """Write a result: its rates, its words and its pictures; each further one is a step of its own.

        Args:
            explanation: the result of the run.

        Raises:
            TypeError: another value.
        """
        if not hasattr(explanation, "activation"):
            raise wrong_type("explanation", "an Explanation", explanation)
        rates = {name: score.rate for name, score in explanation.activation.items()}
        numbers = {f"result/rate/{name}": rate for name, rate in rates.items() if rate is not None}
        numbers |= {f"result/logit/{name}": score.mean_logit for name, score in explanation.activation.items()}
        means = {name: score.mean_score for name, score in explanation.activation.items()}
        numbers |= {f"result/score/{name}": mean for name, mean in means.items() if mean is not None}
        named = explanation.named["words"] if explanation.named is not None else []
        words = " ".join(named or [token[0].word for token in explanation.words if token])
        self._results += 1
        self._result(f"{explanation.target}: {words}", numbers, explanation.images)

    @abstractmethod
    def _end(self, failed: bool) -> None: ...

    @abstractmethod
    def _numbers(self, values: dict[str, float], phase: str, step: int) -> None: ...

    @abstractmethod
    def _result(self, text: str, numbers: dict[str, float], pictures: Sequence[Image.Image]) -> None: ...


class TensorBoard(_Dashboard):
    """Write a run into TensorBoard's files: a ``callback`` of ``explain`` and ``audit``, and a context manager.

    ``add`` writes a result. One folder is one run: ``tensorboard --logdir`` of the folder above shows several runs in
    one chart.

    Args:
        folder: of the files, new or existing.

    Raises:
        TypeError: a folder that is no path.
        StorageError: a file, or no space or permission.
        ImportError: tensorboard is not installed; the message names the extra.
    """

    def __init__(self, folder: str | Path) -> None:
        place = given_path("folder", folder)
        extra("tensorboard", "callbacks.TensorBoard")
        from torch.utils.tensorboard import SummaryWriter

        try:
            self._writer = SummaryWriter(str(place))
        except OSError as error:
            raise storage_error(place, "a folder, with space and permission for files of TensorBoard", error) from error

    def _end(self, failed: bool) -> None:
        self._writer.close()

    def _numbers(self, values: dict[str, float], phase: str, step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def _result(self, text: str, numbers: dict[str, float], pictures: Sequence[Image.Image]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, self._results)
        self._writer.add_text("result/words", text, self._results)
        levels = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
        self._writer.add_images("result/pictures", levels, self._results, dataformats="NHWC")


class WandB(_Dashboard):
    """Write a run to Weights & Biases: a ``callback`` of ``explain`` and ``audit``, and a context manager.

    ``add`` writes a result. Without a network, ``mode="offline"`` keeps the run in a folder for ``wandb sync``. A run
    that an error ends is marked as failed, and one that was there before, which ``wandb.init`` returns, stays open.

    Args:
        **options: of ``wandb.init``, such as ``project``, ``name``, ``dir`` and ``mode``.

    Raises:
        ImportError: wandb is not installed; the message names the extra.
    """

    def __init__(self, **options: object) -> None:
        self._wandb = extra("wandb", "callbacks.WandB")
        before = getattr(self._wandb, "run", None)
        self._run = self._wandb.init(**options)
        self._owned = self._run is not before

    def _end(self, failed: bool) -> None:
        if self._owned:
            self._run.finish(exit_code=1 if failed else 0)

    def _numbers(self, values: dict[str, float], phase: str, step: int) -> None:
        # A run has one count of steps for all phases, so that each phase brings its own.
        self._run.log({**values, f"{phase}/step": step})

    def _result(self, text: str, numbers: dict[str, float], pictures: Sequence[Image.Image]) -> None:
        self._run.log({**numbers, "result/pictures": [self._wandb.Image(picture) for picture in pictures]})
        self._run.summary["result/words"] = text
