"""The models that ``--pipeline``, ``--scheduler``, ``--dtype`` and ``--device`` name, for every command."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from diffexplain_fast.cli import classifiers
from diffexplain_fast.cli.device import chosen_device, chosen_dtype
from diffexplain_fast.runs.ray_workers import RayWorkers

if TYPE_CHECKING:
    from diffexplain_fast.api.explainer import Explainer
    from diffexplain_fast.models.classifier import Classifier
    from diffexplain_fast.models.pipeline import Pipeline


@dataclass(frozen=True)
class Models:
    """Names of models as the command line has them, checked as far as that needs none of them.

    Args:
        pipeline: name of a pipeline, see ``load_pipeline``.
        scheduler: see ``load_with_scheduler``; None for the pipeline's own.
        dtype: of all models, see ``chosen_dtype``.
        device: see ``chosen_device``; None for the GPU, if there is one.

    Raises:
        UnknownNameError: a dtype that does not exist.
        ValueError: a device that does not exist.
    """

    pipeline: str
    scheduler: str | None
    dtype: str
    device: str | None

    def __post_init__(self) -> None:
        _ = self._numbers, self._place

    @property
    def _numbers(self) -> torch.dtype:
        return chosen_dtype(self.dtype)

    @property
    def _place(self) -> str:
        return str(chosen_device(self.device))

    def classifier(self, name: str) -> "Classifier":
        """Return a classifier by its name.

        Args:
            name: see ``classifiers.load_classifier``.

        Raises:
            ValueError: see ``classifiers.load_classifier``.
        """
        return classifiers.load_classifier(name, self._place, self._numbers)

    def explainer(
        self, classifier: "Classifier", seed: int, backend: str = "auto", memory: str = "auto"
    ) -> "Explainer":
        """Load the pipeline, and return what explains a classifier with it.

        Args:
            classifier: as ``classifier`` returns it.
            seed: see ``Explainer``.
            backend: see ``Explainer``.
            memory: see ``Explainer``.

        Raises:
            ValueError: a pipeline or a scheduler that does not exist, or see ``Explainer``.
        """
        from diffexplain_fast.api.explainer import Explainer

        place = self._place
        models = _loaded(self.pipeline, self.scheduler, self.dtype, place)
        return Explainer(models, classifier, backend=backend, memory=memory, seed=seed, device=place)

    def workers(self, address: str) -> RayWorkers:
        """Return workers of Ray that load the same pipeline.

        Args:
            address: of a cluster, or "auto".
        """
        return RayWorkers(address, partial(_loaded, _from_anywhere(self.pipeline), self.scheduler, self.dtype))


def _loaded(pipeline: str, scheduler: str | None, dtype: str, place: str) -> "Pipeline":
    """Return a pipeline on a device, here or in a worker."""
    from diffexplain_fast.engine.scheduler_names import load_with_scheduler

    return load_with_scheduler(pipeline, scheduler, dtype=chosen_dtype(dtype), device=place)


def _from_anywhere(pipeline: str) -> str:
    """Return a name of the same pipeline for a process that runs in another folder."""
    from diffexplain_fast.tinyworld.store import PIPELINES

    folder = Path(pipeline).expanduser()
    return str(folder.absolute()) if pipeline not in PIPELINES and folder.is_dir() else pipeline
