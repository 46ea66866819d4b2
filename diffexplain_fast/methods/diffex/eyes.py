"""Whether an edit shows what it was to show, and nothing else: asked of models that are not the classifier."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.evidence.shipped import Shipped, Wording
from diffexplain_fast.methods.diffex.errors_of_denoiser import LEVELS, denoiser_errors
from diffexplain_fast.methods.diffex.phrases import said_by
from diffexplain_fast.methods.diffex.scene import Job, Read, Scene, same_word
from diffexplain_fast.methods.diffex.verdict import Verdict, verdict_of
from diffexplain_fast.models.seeing import Captioner, Similarity
from diffexplain_fast.taxonomy import Taxonomy

Values = dict[str, list[str]]
"""Slot to all words that a picture may show of it, each once apart from capitals; see ``kinds.slot_of``."""


class Eye(Protocol):
    """A verifier, with the categories that it does not tell apart well."""

    name: str
    unsure: Sequence[str]

    def rows(self, count: int) -> int:
        """Return the rows of the denoiser that a check of so many edits runs."""

    def check(self, scene: Scene, jobs: Sequence[Job], pixels: Tensor) -> list[Verdict]:
        """Return a verdict on each of B edited pictures [B, 3, H, W]."""


def values_of(wording: Wording, *taxonomies: Taxonomy | None) -> Values:
    """Return the words of every slot of taxonomies and their phrases, as the first one that has a word spells it."""
    found: Values = {}
    for concept in (concept for taxonomy in taxonomies if taxonomy is not None for concept in taxonomy.concepts):
        for slot, said in said_by(concept, wording).items():
            if not any(same_word(said, word) for word in found.setdefault(slot, [])):
                found[slot].append(said)
    return found


def eye_for(shipped: Shipped, models: LatentModels, wording: Wording, values: Values) -> Eye:
    """Return the best verifier there is: a captioner, a CLIP pair, or else the denoiser's own error."""
    if shipped.captioner is not None:
        return CaptionEye(shipped.captioner, wording, values)
    if shipped.similarity is not None:
        return SimilarityEye(shipped.similarity, wording, values, shipped.unsure)
    return DenoiserEye(models)


class CaptionEye:
    """Reads what a captioner writes of the edited picture."""

    name = "captioner"
    unsure: Sequence[str] = ()

    def __init__(self, captioner: Captioner, wording: Wording, values: Values) -> None:
        self._captioner, self._wording, self._values = captioner, wording, values

    def rows(self, count: int) -> int:
        """Return 0: the denoiser is not asked."""
        return 0

    def check(self, scene: Scene, jobs: Sequence[Job], pixels: Tensor) -> list[Verdict]:
        """Return a verdict on each of B edited pictures [B, 3, H, W]."""
        if scene.read is None:
            (scene.read,) = self._read(scene.decoded.clamp(0, 1))
        before = scene.read
        return [
            verdict_of(scene, job, self._wording.said(job.caption), before, after)
            for job, after in zip(jobs, self._read(pixels), strict=True)
        ]

    def _read(self, pixels: Tensor) -> list[Read]:
        said = map(self._wording.said, self._captioner.write(pixels))
        return [{name: words.get(name) for name in self._values} for words in said]


class SimilarityEye:
    """Asks a CLIP pair which word of each category fits best, inside the caption.

    Whether a category changed that the pair is unsure of is not asked, except where it was to change.
    """

    name = "similarity"

    def __init__(self, similarity: Similarity, wording: Wording, values: Values, unsure: Sequence[str] = ()) -> None:
        self._similarity, self._wording, self._values, self.unsure = similarity, wording, values, unsure

    def rows(self, count: int) -> int:
        """Return 0: the denoiser is not asked."""
        return 0

    def check(self, scene: Scene, jobs: Sequence[Job], pixels: Tensor) -> list[Verdict]:
        """Return a verdict on each of B edited pictures [B, 3, H, W]."""
        if scene.read is None:
            (feature,) = self._similarity.pictures(scene.decoded.clamp(0, 1))
            scene.read = self._best(feature, Job((), {}, scene.caption))
        before = scene.read
        return [
            verdict_of(scene, job, self._wording.said(job.caption), before, self._best(feature, job))
            for job, feature in zip(jobs, self._similarity.pictures(pixels), strict=True)
        ]

    def _best(self, feature: Tensor, job: Job) -> Read:
        """Return for every category that is asked the word that fits an embedding [d] best in place of the job's."""
        found: Read = {}
        said = self._wording.said(job.caption)
        for name, words in self._values.items():
            if name in job.changes or name not in self.unsure:
                choices = (
                    words if any(same_word(said.get(name, word), word) for word in words) else [*words, said[name]]
                )
                texts = [self._wording.changed(job.caption, {name: word}) for word in choices]
                found[name] = choices[int((self._similarity.texts(texts) @ feature).argmax())]
        return found


class DenoiserEye:
    """Asks the denoiser which caption explains the edited picture better: that of the edit or that of the source.

    What else changed is not asked; each check runs 8 rows.
    """

    name = "denoiser"
    unsure: Sequence[str] = ()

    def __init__(self, models: LatentModels) -> None:
        self._models = models

    def rows(self, count: int) -> int:
        """Return the rows of the denoiser that a check of so many edits runs: two captions at each level of noise."""
        return count * LEVELS * self._models.counted(2)

    def check(self, scene: Scene, jobs: Sequence[Job], pixels: Tensor) -> list[Verdict]:
        """Return a verdict on each of B edited pictures [B, 3, H, W]."""
        latents = self._models.encode(pixels)
        pairs = [[scene.caption, job.caption] for job in jobs]
        errors = [denoiser_errors(self._models, one[None], pair) for one, pair in zip(latents, pairs, strict=True)]
        return [Verdict(bool(after < before)) for before, after in errors]
