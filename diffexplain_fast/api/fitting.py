"""The room that text encoder and classifier need beside a sampler, and the pictures of a step that then fit."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from diffexplain_fast.engine.checks import is_limited
from diffexplain_fast.engine.options import SamplerOptions
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.errors import NoRoomError
from diffexplain_fast.evidence.drawing import Drawing
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.reserve import reserved_bytes
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.runs.checkpoint import configuration_in
from diffexplain_fast.targets import Target

_NUMBERS = (1, 2, 4, 8)
_NEARLY = 1.05
"""Times of a picture that are nearly the same. Counted are FLOP: what is computed again first takes less time than
its FLOP say, and more pictures at once fill a processor better."""


@dataclass(frozen=True)
class Fitting:
    """A sampler, and what runs beside it in a search.

    Attributes:
        sampler: of the search.
        pipeline: adapter from models.pipeline, frozen.
        classifier: adapter from models.classifier, frozen.
        target: bound target.
        options: backend and memory of the sampler.
    """

    sampler: DifferentiableSampler
    pipeline: Pipeline
    classifier: Classifier
    target: Target
    options: SamplerOptions

    @property
    def limited(self) -> bool:
        """Whether there is a byte limit."""
        return is_limited(self.options["backend"], self.options["memory"], self.pipeline.device)

    @property
    def has_limit_of_caller(self) -> bool:
        """Whether the caller gave the byte limit; "auto" is what is free when a step begins."""
        return self.limited and self.options["memory"] != "auto"

    def reserve(self, search: Options) -> None:
        """Let the sampler leave the room that a search needs beside it; none without a limit."""
        found = None
        if self.limited:
            # Free memory does not contain weights, so they do not count.
            weights = self.has_limit_of_caller
            found = reserved_bytes(self.pipeline, self.classifier, self.target, search, weights)
        if self.sampler.plans_memory:
            self.sampler.reserve(found)

    def with_pictures(self, search: Options, checkpoint: str | Path | None) -> Options:
        """Return options with as many pictures in a step as the limit gives, and as they are without a limit.

        Args:
            search: options of the search.
            checkpoint: folder of a run, whose number is taken if it has begun; None for none.

        Raises:
            CorruptFileError: a damaged checkpoint.
        """
        known = None if checkpoint is None else _number_in(checkpoint)
        if known is not None:
            return replace(search, images_per_step=known)
        return replace(search, images_per_step=self._most(search)) if self.limited else search

    def _most(self, search: Options) -> int:
        """Return the number of pictures with the least time for each, the largest of those that take nearly the same.

        More pictures leave less memory for each, so that more is computed again. So once a number takes longer or does
        not fit, larger ones are not tried: the text encoder and the classifier run for each that is.
        """
        drawing, pipeline, best, least = Drawing(self.pipeline, self.sampler, 0), self.pipeline, 0, float("inf")
        with torch.no_grad():
            text = pipeline.encode_soft(pipeline.word_table()[: search.n_tokens], prefix=search.prefix)
        for number in _NUMBERS:
            try:
                self.reserve(replace(search, images_per_step=number))
            except torch.OutOfMemoryError:
                if not best:
                    raise
                break
            try:
                time = drawing.planned_time(text, number)
            except NoRoomError:  # with not even one, the run refuses the limit, and knows what else it draws
                best = best or number
                break
            if time is None:  # the reference runs, because no engine knows the models
                return search.images_per_step
            if time / number > _NEARLY * least:
                break
            best, least = number, min(least, time / number)
        return best


def _number_in(checkpoint: str | Path) -> int | None:
    """Return the pictures of a step of the run in a folder, None without a run that has such steps."""
    number = (configuration_in(checkpoint) or {}).get("images_per_step")
    return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else None
