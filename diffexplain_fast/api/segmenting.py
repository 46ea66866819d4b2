"""The paper's own scores of an ``Explainer``'s explanations."""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from diffexplain_fast.api.documented import names_nearest
from diffexplain_fast.api.explains import Explains
from diffexplain_fast.api.found import prefix_of
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.editing.pictures import as_pixels
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.evidence.concepts import concepts_of
from diffexplain_fast.evidence.readout import readout_of
from diffexplain_fast.evidence.shipped import Segment, shipped_with
from diffexplain_fast.given_files import given_path
from diffexplain_fast.methods.segments.segments import Explained, segment_rows
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.results.explanation import Explanation, first_words
from diffexplain_fast.results.segments import PrefixRow, SegmentRow
from diffexplain_fast.targets import as_target, shown_target, whole_number

_UNNAMED = re.compile(r"Class(?:Logit|Probability)\((\d+)\)")
"""The target of a class without a label, as it is described."""
_LONGEST = 40
"""Letters of a prefix in the name of its folder."""
TEXTURE, SHAPE = "a texture of", "a shape of"


class _Searches(Protocol):
    """What of an ``Explainer`` is used for prefixes."""

    @property
    def explain(self) -> Callable[..., Explanation]: ...


class Segmenting:
    """The part of an ``Explainer`` that scores explained pictures as the paper does."""

    @names_nearest()
    @torch.inference_mode(False)
    def segments(
        self: Explains,
        explanation: Explanation,
        concepts: object = None,
        segmenter: Segment | None = None,
        removed: int = 4,
    ) -> list[SegmentRow]:
        """Return presence, pixel share and drop of concepts in the pictures of an explanation.

        These scores are evidence beside an audit: they see only what an explanation happened to show, also what merely
        stands beside the cause, and never an alternative that was not shown.

        Args:
            explanation: of a class of this explainer's classifier, or of a sum or ``Disagreement`` that has a class:
                then the rows are of that class alone, and are called by it.
            concepts: as in ``audit``.
            segmenter: as in ``audit``.
            removed: pictures at most in which each concept is removed; 0 for none.

        Returns:
            A row for every concept that has a region.

        Raises:
            TypeError: an argument of the wrong kind.
            ValueError: no segmenter, an explanation without a class or pictures, or of a class that this classifier
                does not have or cannot tell from another one, prompts of another pipeline.

        Source: DiffExplainer (arXiv 2404.02618), Figure 1: language-driven segmentation of the pictures.
        """
        if not isinstance(explanation, Explanation):
            raise wrong_type("explanation", "an Explanation", explanation)
        if whole_number("removed", removed) < 0:
            raise wrong_value("removed", "at least 0", removed)
        index = _class_of(explanation, self.classifier)
        if index is None or not explanation.images:
            raise wrong_value("explanation", "one of a class, with pictures", explanation.target)
        self._follow()
        shipped = shipped_with(self.pipeline)
        segment = segmenter or shipped.segment
        if segment is None:
            raise wrong_value("segmenter", "a function of pixels and texts, because none ships here", None)
        asked = concepts_of(concepts, self.pipeline)
        with self._frozen(segmenter):
            self._settle()
            pixels = _pixels(self.pipeline, explanation.images)
            usual = [picture.image for picture in explanation.pictures.get("class_name", [])]
            readout = readout_of(self.classifier, as_target(index), pixels[:1])
            soft = explanation.prompt_embeds.to(self.pipeline.device, self.pipeline.dtype)
            explained = Explained(
                readout.names[0],
                pixels,
                _pixels(self.pipeline, usual) if usual else None,
                self.pipeline.encode_soft(soft, prefix=prefix_of(explanation)),
                lambda some: torch.from_numpy(readout(some)[0][:, 0]),
            )
            models = LatentModels(self.pipeline, one_shape=False, calls=self._calls())
            return segment_rows(explained, asked, segment, shipped.ask, models, removed, self.seed)

    def prefixes(
        self: _Searches, target: object, prefixes: Sequence[str] = ("", TEXTURE, SHAPE), **options: object
    ) -> tuple[list[PrefixRow], list[Explanation]]:
        """Explain a target with several prefixes before the soft tokens, side by side.

        ``results.segments.texture_sentence`` says what a texture and a shape together tell of a texture bias.

        Args:
            target: as in ``explain``.
            prefixes: real words before the soft tokens, each once.
            **options: as in ``explain``; in a folder of checkpoints each prefix has a folder of its own.

        Returns:
            A row for every prefix, and the explanations.

        Raises:
            TypeError: as ``explain``; no sequence of prefixes, or a prefix that is no text.
            ValueError: as ``explain``; no prefix, or one twice.

        Every error has the explanations that were done in ``finished``, beside ``last_good``; see ``explain``.

        Source: DiffExplainer (arXiv 2404.02618), Figure 4.
        """
        if not isinstance(prefixes, Sequence):
            raise wrong_type("prefixes", "texts", prefixes)
        for prefix in prefixes:
            if not isinstance(prefix, str):
                raise wrong_type("prefix", "text", prefix)
        if isinstance(prefixes, str) or not prefixes or len(set(prefixes)) < len(prefixes):
            raise wrong_value("prefixes", "at least one, each once", prefixes)
        found, folder = list[Explanation](), options.pop("checkpoint", None)
        for prefix in prefixes:
            own = None if folder is None else given_path("checkpoint", folder) / _folder_of(prefix)
            try:
                found.append(self.explain(target, prefix=prefix, checkpoint=own, **options))
            except BaseException as error:
                vars(error)["finished"] = [*found, *getattr(error, "finished", ())]
                raise
        return [_prefix_row(prefix, one) for prefix, one in zip(prefixes, found, strict=True)], found


def _class_of(explanation: Explanation, classifier: Classifier) -> int | None:
    """Return the index of the class of an explanation, None without one.

    Explanations of earlier versions do not hold it: there the target says it, or else the label.

    Raises:
        ValueError: the classifier has no such class, or several.
    """
    index, label, labels = explanation.settings.get("class_index"), explanation.label, classifier.labels
    if isinstance(index, int) and [label] == ([None] if labels is None else [*labels[index : index + 1]]):
        return index
    if label is not None:
        shown = shown_target(explanation.target, label)
        return classifier.label_index(label if shown == explanation.target else shown)
    plain = _UNNAMED.fullmatch(explanation.target) if labels is None else None
    return None if plain is None else classifier.label_index(int(plain[1]))


def _folder_of(prefix: str) -> str:
    """Return the name of a prefix's folder, safe in every file system, and of no other prefix."""
    letters = re.sub(r"[^a-z0-9]+", "-", prefix.lower()).strip("-")[:_LONGEST]
    digest = hashlib.sha256(prefix.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return "-".join(part for part in ("prefix", letters, digest) if part)


def _pixels(pipeline: Pipeline, images: Sequence[Image.Image]) -> Tensor:
    return as_pixels(images, pipeline.image_size, pipeline.device).to(pipeline.dtype)


def _prefix_row(prefix: str, found: Explanation) -> PrefixRow:
    score = found.activation["held_out"]
    low, high = (None, None) if score.interval is None or score.rate is None else score.interval
    return PrefixRow(found.target, prefix, score.rate, low, high, score.mean_target, first_words(found), score.n)
