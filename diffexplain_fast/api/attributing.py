"""What an ``Explainer`` does with the user's own pictures."""

import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from diffexplain_fast.api.documented import names_nearest
from diffexplain_fast.api.explains import Explains
from diffexplain_fast.editing.ddim import invert_ddim
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.editing.pictures import as_image, as_pixels
from diffexplain_fast.editing.reconstruction import checked_captions
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.methods.diffex.answers import Answers
from diffexplain_fast.methods.diffex.attribute import Findings, attribute
from diffexplain_fast.methods.diffex.gradcam import gradcam as gradcam_of
from diffexplain_fast.methods.diffex.gradient import Drift, drifted
from diffexplain_fast.methods.diffex.setup import Setup, Wishes, set_up
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.records import JsonObject
from diffexplain_fast.results.attribution import Attribution
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.effects import Counterfactual
from diffexplain_fast.results.told_apart import audit_of_another
from diffexplain_fast.runs.bars import bars_beside, check_bars
from diffexplain_fast.runs.progress import Progress
from diffexplain_fast.targets import as_target, whole_number
from diffexplain_fast.taxonomy import Taxonomy


class Attributing:
    """The part of an ``Explainer`` that is about the user's own pictures."""

    @names_nearest()
    @torch.inference_mode(False)
    def attribute(
        self: Explains,
        images: object,
        target: object,
        taxonomy: object = None,
        editor: str = "auto",
        seeds: int = 1,
        beam_width: int = 4,
        budget: int | str | None = None,
        captions: Sequence[str] | None = None,
        checkpoint: str | Path | None = None,
        gradcam: bool | str = False,
        callback: Callable[[Progress], None] | None = None,
        progress: bool | None = None,
    ) -> Attribution:
        """Edit semantics of given pictures, check every edit, and measure what each does to the classifier's answer.

        Args:
            images: PIL images of any size and mode, or pixels [B, 3, H, W] in [0, 1].
            target: as in ``explain``.
            taxonomy: a ``Taxonomy``, values of its JSON, or a file of it; None for the one that the pipeline has. An
                ``Audit`` for what it has found of the target, see ``Taxonomy.from_audit``: then ``Attribution.audited``
                says how the edits agree with it, if it is of this classifier. One of another
                classifier, or a difference of two, only says what is edited; see ``Attribution.not_compared``.
            editor: "auto" chooses by kind of semantics and tries another one where an edit fails; "swap" replaces words
                of the caption, "inpaint" draws a region anew, "guide" adds and removes semantics.
            seeds: edits of each picture and concept, with noise of their own; at least 1.
            beam_width: w, at least 1: at most w^2 pairs of concepts are drawn together on each picture for
                ``interactions``, and at most w other sets of two and w of three in search of a counterfactual.
            budget: rows of the denoiser as 2000 or "2000 rows", or a time as "20 s" or "5 min"; None for no limit. What
                does not fit is left out.
            captions: one of each picture as it is; None to let a captioner, or the pipeline itself, describe them. A
                concept whose word does not fit into the text encoder beside a long caption, or that the caption has no
                place for, as for the colour of an empty place, is left out, with a warning.
            checkpoint: folder of what is done already; a run that was interrupted goes on from it to the same result.
                One of more seeds keeps what there is, one of a larger budget the pictures of which every concept was
                edited: the concepts of the one at which the budget ended are edited anew. A time budget draws
                in small batches, which only runs with a time keep. None to keep nothing.
            gradcam: whether Grad-CAM, which says where and not what, is computed beside it; or a layer for it. See
                ``maps.gradcam``.
            callback: receives a ``Progress`` after every batch of the denoiser, and after every picture.
            progress: see ``explain``.

        Returns:
            Effects of all concepts that a picture does not show already, of pairs, and counterfactuals.

        Raises:
            ImportError: ``gradcam`` without captum.
            NonFiniteError: an answer of the classifier that is NaN or infinite; -inf for other classes is none.
            TypeError: an argument of the wrong kind, or one that does not exist.
            ValueError: an argument out of range, a caption that is too long for the text encoder, no taxonomy where
                none ships, a phrase in it that contradicts itself, an unknown label, a budget that is too small for a
                single edit, or a checkpoint of another attribution.
            CorruptFileError: a file of the checkpoint that cannot be read; names it.
            StorageError: a checkpoint that cannot be written.

        Source: DiffEx (CVPR 2025); editors in ``editing.editors``.
        """
        wishes = Wishes(taxonomy, editor, seeds, beam_width, budget, checkpoint=checkpoint)
        wishes.check()
        if not isinstance(gradcam, bool | str):
            raise wrong_type("gradcam", "True, False or the name of a layer", gradcam)
        if gradcam == "":
            raise wrong_value("gradcam", "True, False or the name of a layer", "an empty name")
        check_bars(callback, progress)
        self._follow()
        with self._frozen(target):
            self._settle()
            bound = as_target(target).bind(self.classifier)
            pixels = as_pixels(images, self.pipeline.image_size, self.pipeline.device)
            wishes = wishes._replace(captions=checked_captions(captions, len(pixels), self.pipeline))
            (answers := Answers(self.classifier, bound)).ask(pixels)  # no number is refused before anything is drawn
            layer = gradcam if isinstance(gradcam, str) else None
            where = gradcam_of(self.classifier, pixels, target, layer) if gradcam else None
            wishes = _found_by(wishes, answers, self.classifier)
            setup = set_up(self.pipeline, self.classifier, bound, pixels, wishes, self.seed, self._calls())
            with bars_beside(callback, progress, bound.describe()) as report:
                found = attribute(setup.lab, pixels, setup.captions, setup.taxonomy, seeds, beam_width, report)
            label = setup.lab.answers.label
        result = Attribution(
            target=setup.lab.answers.name,
            label=None if label is None else self.classifier.label_name(label),
            images=[as_image(one) for one in pixels],
            captions=setup.captions,
            taxonomy=setup.taxonomy,
            denoiser_rows=setup.lab.drawing.models.denoiser_rows,
            settings=_settings(setup, wishes, found)
            | {"pipeline": self.pipeline.name, "seed": self.seed}
            | {"classifier": self.classifier.name, "classifier_fingerprint": _fingerprint(self.classifier)},
            gradcam=where,
            **{name: value for name, value in found._asdict().items() if name != "work"},
        )
        return _beside(result, taxonomy)

    @names_nearest()
    @torch.inference_mode(False)
    def counterfactual(
        self: Explains,
        image: object,
        target: object,
        caption: str = "",
        *,
        iterations: int = 40,
        distance: float = 5.0,
        num_inference_steps: int | None = None,
    ) -> Counterfactual | None:
        """Move a picture by gradients through the sampler until the classifier no longer answers with the target.

        For what no word says; ``attribute`` finds counterfactuals that words name. The picture's start noise and prompt
        are moved, and what the inversion loses of the picture is put back.

        Args:
            image: one PIL image, or pixels [3, H, W] in [0, 1].
            target: a class.
            caption: of the picture as it is; "" for none.
            iterations: gradient steps at most, at least 1.
            distance: weight of the mean change of a pixel against the log-odds of the target, at least 0: more
                keeps the picture nearer, and takes longer.
            num_inference_steps: see ``explain``.

        Returns:
            The first picture that flips, or the nearest to it, with ``changes`` empty; None where the classifier does
            not see the target in the picture.

        Raises:
            NonFiniteError: an answer of the classifier that is NaN or infinite.
            TypeError: an argument of the wrong kind.
            ValueError: more than one picture, an argument out of range, a caption that is too long, a target that is no
                class, or a pipeline whose scheduler is not DDIM.

        Source: DiG-IN (CVPR 2024); here the start noise is moved too.
        """
        if whole_number("iterations", iterations) < 1:
            raise wrong_value("iterations", "at least 1", iterations)
        if isinstance(distance, bool) or not isinstance(distance, int | float) or not 0 <= distance < math.inf:
            raise wrong_value("distance", "a number of at least 0", distance)
        self._follow()
        with self._frozen(target):
            self._settle()
            bound = as_target(target).bind(self.classifier)
            pixels = as_pixels(image, self.pipeline.image_size, self.pipeline.device, "image")
            if len(pixels) != 1:
                raise wrong_value("image", "one picture", len(pixels))
            answers = Answers(self.classifier, bound)
            if answers.label is None:
                raise wrong_value("target", "a class", bound.describe())
            answers.ask(pixels)  # as for an attribution
            (text,) = checked_captions([caption], 1, self.pipeline, "caption") or [""]
            sampler = self._sampler(num_inference_steps, 1.0)
            models = LatentModels(self.pipeline, one_shape=False, calls=sampler.single_calls(closely=False))
            start = invert_ddim(sampler, models, models.encode(pixels), text)
            return drifted(sampler, self.classifier, answers, pixels, start, Drift(iterations, distance))


def _found_by(wishes: Wishes, answers: Answers, classifier: Classifier) -> Wishes:
    """Return wishes with what an audit has found of a target in the audit's place."""
    if not isinstance(wishes.taxonomy, Audit):
        return wishes
    name = answers.name if answers.label is None else classifier.label_name(answers.label)
    return wishes._replace(taxonomy=Taxonomy.from_audit(wishes.taxonomy, name))


def _beside(result: Attribution, taxonomy: object) -> Attribution:
    """Return an attribution that says how it agrees with the audit in a taxonomy's place, or why that is not asked."""
    if not isinstance(taxonomy, Audit):
        return result
    if other := audit_of_another(result.settings, taxonomy):
        wanted, got = other
        said = f"the audit that says what is edited is {got}, not {wanted}, whose answers are measured here"
        result.settings["not_compared"] = f"Audit and edits are not compared: {said}."
        return result
    with contextlib.suppress(ValueError):
        result.audited = result.agreement(taxonomy)
    return result


def _fingerprint(classifier: Classifier) -> str | None:
    """Return the classifier's fingerprint, None where its state has no content to hash."""
    try:
        return classifier.fingerprint()
    except (TypeError, ValueError):
        return None


def _settings(setup: Setup, wishes: Wishes, found: Findings) -> JsonObject:
    """Return what is needed to repeat an attribution, and what became of its budget."""
    return {
        "verifier": setup.lab.eye.name,
        "editor": wishes.editor,
        "denoiser": setup.lab.drawing.models.calls.described,
        "steps": dict(setup.lab.drawing.steps),
        "seeds": wishes.seeds,
        "beam_width": wishes.beam_width,
        "budget": wishes.budget,
        "budget_used_up": setup.lab.budget.used_up,
        "captions_given": wishes.captions is not None,
        "cut_words": setup.cut_words,
        "captions_too_long": [*setup.lab.jobs.too_long],
        "captions_cannot_say": [*setup.lab.jobs.unsaid],
        "redraws_left_out": [one.scene.index for one in found.work if one.null.left_out],
        "screened_only": sum(row.screened for row in found.rows),
        "unit": setup.lab.answers.unit,
    }
