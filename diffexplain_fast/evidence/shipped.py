"""What ships beside a pipeline to look at its pictures: a taxonomy, the wording of captions, and models that see."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.models.seeing import Captioner, Segmenter, Similarity
from diffexplain_fast.records import JsonObject
from diffexplain_fast.taxonomy import Taxonomy
from diffexplain_fast.tinyworld import rewording, store
from diffexplain_fast.tinyworld.words import NOTHING

Segment = Callable[[Tensor, Sequence[str]], Tensor]
"""Pixels [B, 3, H, W] in [0, 1] and a text for each to where the thing is, bool [B, 1, H, W]."""
Ask = Callable[[str, str], str | None]
"""Value and group to the text that asks a segmenter for it, None for a value that is nowhere."""


def checked_segment(segment: Segment) -> Segment:
    """Return a segmenter of the user's whose answers are checked, each time.

    Args:
        segment: a function of pixels and texts.

    Returns:
        A segmenter that raises a ValueError where the function returns anything else than masks.
    """

    def regions(pixels: Tensor, texts: Sequence[str]) -> Tensor:
        found: object = segment(pixels, texts)
        shape = [len(pixels), 1, *pixels.shape[2:]]
        if not isinstance(found, Tensor) or list(found.shape) != shape or found.dtype != torch.bool:
            got = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise wrong_value("segmenter", f"a function that returns bool {shape}", got)
        return found

    return regions


class Wording(Protocol):
    """How captions say what a picture shows."""

    placebos: tuple[str, ...]
    """Frames of a caption, with "{}" for it, that change nothing in the picture."""

    def said(self, text: str) -> dict[str, str]:
        """Return what a caption says: category to word."""

    def disputed(self, text: str) -> dict[str, list[str]]:
        """Return the categories of which a text says what cannot be true at once, with its words for each."""

    def changed(self, text: str, changes: Mapping[str, str]) -> str:
        """Return a caption with other words of some categories."""

    def without(self, text: str, category: str) -> str:
        """Return a caption that says nothing of a category, or that it is not there."""

    def region(self, word: str, category: str) -> str | None:
        """Return the text that asks a segmenter for a word of a category, None for one that is nowhere."""

    def parts(self, phrase: str) -> dict[str, str]:
        """Return what a phrase says of several categories at once: category to word; {} for any other text.

        Raises:
            ValueError: a phrase that contradicts itself.
        """


class Shipped(NamedTuple):
    """What ships beside a pipeline; None for what does not.

    Attributes:
        taxonomy: of all that its captions can change.
        wording: of its captions.
        similarity: how well texts fit pictures.
        captioner: writes captions.
        segmenter: finds regions.
        unsure: categories that ``similarity`` does not tell apart well.
    """

    taxonomy: Taxonomy | None = None
    wording: Wording | None = None
    similarity: Similarity | None = None
    captioner: Captioner | None = None
    segmenter: Segmenter | None = None
    unsure: tuple[str, ...] = ()

    @property
    def segment(self) -> Segment | None:
        """What finds regions; None where no segmenter ships."""
        return None if self.segmenter is None else self.segmenter.regions

    def fingerprints(self) -> JsonObject:
        """Return the sha256 over the weights of each model that ships, None for one that does not."""
        models = {"similarity": self.similarity, "captioner": self.captioner, "segmenter": self.segmenter}
        return {name: None if model is None else model.fingerprint() for name, model in models.items()}

    @property
    def ask(self) -> Ask:
        """What says how a segmenter is asked for a value: the wording that ships, or the value as it is."""
        return _as_it_is if self.wording is None else self.wording.region


def shipped_with(pipeline: Pipeline) -> Shipped:
    """Return what ships beside a pipeline: all of it for the tiny world, nothing for others."""
    if pipeline.name not in store.PIPELINES:
        return Shipped()
    words = pipeline.words()
    similarity, captioner, segmenter = _seeing()
    wording = rewording.WorldWording(words)
    unsure = ("object", "texture")  # as the CLIP pair of the first world is; a captioner ships with a better one
    return Shipped(rewording.world_taxonomy(words), wording, similarity, captioner, segmenter, unsure)


def _as_it_is(word: str, category: str) -> str | None:
    return None if word == NOTHING else word


@cache
def _seeing() -> tuple[Similarity, Captioner | None, Segmenter]:
    """Read the models that see once for all calls of a process."""
    captioner = store.load_captioner() if store.has_captioner() else None
    pair = None if captioner is None else Captioner(*captioner)
    return Similarity(*store.load_clip()), pair, Segmenter(*store.load_segmenter())
