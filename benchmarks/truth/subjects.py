"""What a method may look at: a classifier, the generator, one pool of pictures for all classifiers, explanations."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import diffexplain_fast as dx
from benchmarks.truth.cells import Planned
from diffexplain_fast.evidence.concepts import Concepts, concepts_of
from diffexplain_fast.evidence.drawing import Drawing
from diffexplain_fast.evidence.phrases import Phrases, phrases_of
from diffexplain_fast.evidence.pool import Pool
from diffexplain_fast.evidence.readout import Readout, readout_of
from diffexplain_fast.tinyworld.words import NOTHING, OBJECTS

SHOWN = 12
"""Pictures of an explanation, and of a class name, that methods of evidence look at."""
_SEARCH: dict[str, Any] = {"budget": "1000 rows", "iterations": 20, "restarts": 0, "n_validation": 8}
"""Bounds of a search for a prompt: a fixed cost, about fifteen seconds of one core."""


class Subject:
    """A classifier of the list, and the tools that every method has.

    Args:
        planned: what is planted; no method reads it but for the classes that are asked about.
        classifier: that was made of it.
        work: folder of the pool and of explanations.
        seed: of all pictures.

    Attributes:
        classifier: see above.
        labels: the classes on which methods are compared.
        explainer: of the classifier, with the tiny world's generator.
        folder: of the pool.
        concepts: that the generator has words for.
        phrases: how captions say them.
        pool: pictures that all classifiers share.
    """

    def __init__(self, planned: Planned, classifier: dx.Classifier, work: Path, seed: int = 0) -> None:
        self.classifier, self.labels, self.folder = classifier, planned.labels, work / "pool"
        self.explainer = dx.Explainer("tinyworld", classifier, seed=seed)
        self._explanations = work / "explanations" / planned.name
        pipeline = self.explainer.pipeline
        self.concepts: Concepts = concepts_of(None, pipeline)
        self.phrases: Phrases = phrases_of(self.concepts, pipeline)
        steps, guidance = pipeline.usual_sampling
        sampler = dx.DifferentiableSampler.from_pipe(pipeline, num_inference_steps=steps, guidance_scale=guidance)
        self.pool = Pool(self.folder, Drawing(pipeline, sampler, seed))

    @cached_property
    def _readout(self) -> Readout:
        return readout_of(self.classifier, list(OBJECTS), self.pool.as_pixels(self.pool.blank()))

    def pictures(self, stage: str, captions: Sequence[str]) -> Tensor:
        """Return pixels [n, 3, H, W] of captions, drawn unless they were drawn before.

        Args:
            stage: of the pool; stages share no start latents.
            captions: one for each picture.
        """
        return torch.cat([self.pool.as_pixels(part) for part in self.pool.pictures(stage, captions, 0, len(captions))])

    def values(self, stage: str, captions: Sequence[str]) -> np.ndarray:
        """Return the centred logits [n, 8] of pictures of captions, in the order of ``OBJECTS``."""
        return self._readout(self.pictures(stage, captions))[0]

    def can_say(self, concept: str) -> bool:
        """Return whether the generator has a word for a concept."""
        value = concept.partition(":")[2]
        return value != NOTHING and self.explainer.pipeline.spells(value)

    def explanation(self, label: str) -> dx.Explanation:
        """Return the explanation of a class by a soft prompt, made unless it was made before."""
        folder = self._explanations / label
        if not folder.exists():
            self.explainer.explain(label, progress=False, n_score=SHOWN, n_images=SHOWN, **_SEARCH).save(folder)
        return dx.Explanation.load(folder)

    def explained(self, label: str) -> Tensor:
        """Return the pictures [12, 3, H, W] of the explanation of a class."""
        images = [torch.from_numpy(np.array(image)) for image in self.explanation(label).images]
        return torch.stack(images).permute(0, 3, 1, 2).float() / 255

    def named(self, label: str) -> Tensor:
        """Return as many pictures of the class's name."""
        return self.pictures(f"name-{label}", [f"a {label}"] * SHOWN)
