"""What the parts of an ``Explainer`` use of the whole."""

from contextlib import AbstractContextManager
from typing import Protocol

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.engine.single import SingleCalls
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.pipeline import Pipeline


class Explains(Protocol):
    """An ``Explainer``, as its parts in other files see it."""

    pipeline: Pipeline
    classifier: Classifier
    seed: int

    def _follow(self) -> None: ...
    def _frozen(self, *functions: object) -> AbstractContextManager[None]: ...
    def _settle(self) -> None: ...
    def _calls(self) -> SingleCalls: ...

    def _sampler(self, steps: int | None, guidance: float | None) -> DifferentiableSampler: ...
