"""All that an attribution needs, from what a caller gives: taxonomy, captions, and what draws, checks and measures."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.engine.single import SingleCalls
from diffexplain_fast.errors import callers_level, unknown_name, wrong_value
from diffexplain_fast.evidence.shipped import Shipped, Wording, shipped_with
from diffexplain_fast.given_files import given_path
from diffexplain_fast.methods.diffex.answers import Answers
from diffexplain_fast.methods.diffex.budget import Budget
from diffexplain_fast.methods.diffex.captions import source_captions, warn_of_disputed
from diffexplain_fast.methods.diffex.drawing import Drawing
from diffexplain_fast.methods.diffex.eyes import eye_for, values_of
from diffexplain_fast.methods.diffex.jobs import Jobs
from diffexplain_fast.methods.diffex.kinds import EDITORS, slot_of
from diffexplain_fast.methods.diffex.mixing import wording_for
from diffexplain_fast.methods.diffex.notes import Done, Notes
from diffexplain_fast.methods.diffex.resuming import Asked, steps_in
from diffexplain_fast.methods.diffex.trials import Lab
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.records import Json, JsonObject
from diffexplain_fast.targets import Target, whole_number
from diffexplain_fast.taxonomy import Taxonomy


class Wishes(NamedTuple):
    """What a caller asks for; see ``Explainer.attribute``."""

    taxonomy: object = None
    editor: str = "auto"
    seeds: int = 1
    beam_width: int = 4
    budget: int | str | None = None
    captions: list[str] | None = None
    checkpoint: str | Path | None = None

    def check(self) -> None:
        """Refuse an editor that does not exist, counts below 1, and a checkpoint that no folder can be.

        Raises:
            TypeError: a count that is not a whole number, or a checkpoint that is no path.
            ValueError: see above.
        """
        if self.editor not in EDITORS:
            raise unknown_name("editor", str(self.editor), EDITORS)
        if self.checkpoint is not None:
            given_path("checkpoint", self.checkpoint)
        for name in ("seeds", "beam_width"):
            if whole_number(name, value := getattr(self, name)) < 1:
                raise wrong_value(name, "at least 1", value)


class Setup(NamedTuple):
    """What an attribution runs on.

    Attributes:
        lab: draws, checks and measures.
        taxonomy: the concepts.
        captions: of each picture.
        cut_words: words that the tokenizer cuts into pieces.
    """

    lab: Lab
    taxonomy: Taxonomy
    captions: list[str]
    cut_words: list[str]


def set_up(
    pipeline: Pipeline,
    classifier: Classifier,
    target: Target,
    pixels: Tensor,
    wishes: Wishes,
    seed: int,
    calls: SingleCalls | None = None,
) -> Setup:
    """Return what an attribution of pictures [B, 3, H, W] runs on.

    Args:
        pipeline: adapter from ``models.pipeline``.
        classifier: adapter from ``models.classifier``.
        target: bound.
        pixels: the pictures.
        wishes: of the caller, checked.
        seed: decides all noise.
        calls: runs denoiser and decoder; None reads the pipeline's.

    Raises:
        TypeError: a taxonomy or budget of another kind.
        ValueError: no taxonomy where none ships, a phrase in it that contradicts itself, or an editor that needs
            regions where no segmenter ships.
    """
    shipped, models = shipped_with(pipeline), LatentModels(pipeline, one_shape=False, calls=calls)
    budget, taxonomy = Budget.of(models, wishes.budget), _chosen(wishes.taxonomy, shipped)
    if wishes.editor == "inpaint" and shipped.segmenter is None:
        raise wrong_value("editor", "an editor that needs no regions, as no segmenter ships here", "inpaint")
    wording = wording_for(taxonomy, shipped)
    values = values_of(wording, shipped.taxonomy, taxonomy)
    cut = _cut_words(taxonomy, wording, pipeline)
    settings: JsonObject = {"taxonomy": taxonomy.to_json(), "seed": seed}
    notes = _notes(Asked(pipeline, classifier, target), pixels, settings, wishes, budget)
    captions = wishes.captions or _captions(notes, lambda: source_captions(shipped, models, wording, values, pixels))
    warn_of_disputed(wishes.captions or (), wording)
    eye, jobs = eye_for(shipped, models, wording, values), Jobs(wording, pipeline.fits)
    drawing = Drawing(models, shipped, wording, wishes.editor, seed)
    lab = Lab(drawing, eye, Answers(classifier, target), budget, notes, jobs)
    return Setup(lab, taxonomy, captions, cut)


def _notes(asked: Asked, pixels: Tensor, settings: JsonObject, wishes: Wishes, budget: Budget) -> Notes:
    if wishes.checkpoint is None:
        return Notes(budget)
    captions: list[Json] | None = None if wishes.captions is None else list(wishes.captions)
    settings = settings | {"editor": wishes.editor, "captions": captions}
    return Notes(budget, steps_in(wishes.checkpoint, asked, pixels, settings))


def _captions(notes: Notes, run: Callable[[], list[str]]) -> list[str]:
    found: list[str] = notes.step({"what": "captions"}, None, lambda: Done([*run()], {})).values
    return found


def _chosen(given: object, shipped: Shipped) -> Taxonomy:
    if given is not None:
        return Taxonomy.of(given)
    if shipped.taxonomy is None:
        raise wrong_value("taxonomy", "a Taxonomy, because none ships with this pipeline", None)
    return shipped.taxonomy


def _cut_words(taxonomy: Taxonomy, wording: Wording, pipeline: Pipeline) -> list[str]:
    """Return the words that the tokenizer cuts into pieces, and warn of them."""
    said = {c.word for c in taxonomy.concepts if wording.region(c.word, slot_of(c)) is not None}
    cut = [word for word in taxonomy.cut_words(lambda text: len(pipeline.token_embeddings(text))) if word in said]
    if cut:
        got = f"{', '.join(cut)}, which the tokenizer cuts into pieces; the pipeline may not know what they mean"
        warnings.warn(f"taxonomy: wanted words that are one token each, got {got}", stacklevel=callers_level())
    return cut
