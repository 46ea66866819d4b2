"""From what a user asks of an audit to a question that the method answers."""

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from diffexplain_fast.api.found import Searches, check_explain, found_by, kept_in, searched, tokens_of
from diffexplain_fast.api.intervening import Intervening
from diffexplain_fast.api.picturing import Picturing
from diffexplain_fast.engine.options import SamplerOptions
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.environment import cache_folder
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.evidence.calibration import Sight, errors_in_tiny_world, sight_of
from diffexplain_fast.evidence.concepts import Concepts, concepts_of
from diffexplain_fast.evidence.crew import checked_ray, crew_of
from diffexplain_fast.evidence.drawing import Drawing
from diffexplain_fast.evidence.eyes import Eye, checked_eye, fingerprint_of
from diffexplain_fast.evidence.phrases import Phrases, phrases_of
from diffexplain_fast.evidence.pool import Pool, pool_name
from diffexplain_fast.evidence.readout import readout_of
from diffexplain_fast.evidence.shipped import Segment
from diffexplain_fast.given_files import given_path
from diffexplain_fast.methods.discovery.discover import discover
from diffexplain_fast.methods.discovery.options import AuditOptions
from diffexplain_fast.methods.discovery.prepared import prepare
from diffexplain_fast.methods.discovery.question import Question
from diffexplain_fast.methods.discovery.screen import longest, screened
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.audit_rows import OWN_EYE
from diffexplain_fast.runs.bars import check_bars
from diffexplain_fast.runs.progress import Progress, counter
from diffexplain_fast.runs.ray_workers import RayWorkers
from diffexplain_fast.stats.decisions import Control
from diffexplain_fast.tinyworld.store import classifier_names

AUTO = "auto"
_CAPTIONS = "captions"
"""Folder inside of a pool in which the eye that ships keeps what it wrote of the pictures."""
_OF_DRAWN = ("labels", "segmenter", "weights", "redraw", "own_pictures")
"""Options that say something about generated pictures, or about own pictures beside them."""


class Auditing(TypedDict, total=False):
    """Options of ``Explainer.audit`` beside its arguments.

    Attributes:
        pool: folder of the pictures, shared with other audits and processes; None for one of the pipeline, its sampler
            and the seed in the user's cache folder, see ``environment.cache_folder``.
        eye: sees concepts in pictures: "auto" for the tiny world's captioner or CLIP pair, None for none, or a function
            of pixels [B, 3, H, W] in [0, 1] that returns [B, concepts]: 1, 0, or NaN where it cannot tell. In the tiny
            world its errors are measured on rendered pictures and undone; elsewhere it is believed as it is.
        control: "fdr", the rate of false ones among the findings; "any", the same under any dependence; "family", any
            false finding at all.
        own_pictures: pictures that ask for a class's own object, for each class whose name is not a concept, and for
            each other one of which a concept is undecided at the end, or may be a finding; None for a quarter of
            ``pictures`` for up to 16 classes of the first kind, and for 96 of each 384 ``pictures`` for up to 16 of the
            second.
        labels: the true label of each picture of ``images``, for accuracies by label and concept, in a list or an
            array of one dimension; None for none, or for the names of the folders that hold them.
        segmenter: finds things in ``images``: a function of pixels [B, 3, H, W] in [0, 1] and B texts that returns bool
            [B, 1, H, W]; None for the one that ships with the tiny world.
        clusters: a name or number for each picture of ``images``, where some are not independent, such as crops of one
            photograph, in a list, an array or a tensor of one dimension; None where all are.
        weights: the user's own distribution of concepts, group to value to share, such as
            ``{"background": {"desert": 0.5, "snow": 0.3}}``: every picture counts as often as the user's pictures are
            like it. Values that are not named share the rest, groups that are not named are uniform.
        redraw: how often, at most, a picture in which the eye does not see what was asked for is drawn again from a new
            start latent; 0 for never. ``asked`` and ``obeyed`` stay those of the first draws.
        ray: draws the pictures in workers of Ray, one for each GPU: "auto" for this machine or its cluster, the address
            of a cluster, or ``RayWorkers``; None to draw here. The pool is the same, so that a run goes on with or
            without workers. Needs the extra ``ray``.
        num_inference_steps: see ``Explainer.explain``.
        guidance_scale: see ``Explainer.explain``.
        callback: receives a ``Progress`` after every eight pictures.
        progress: see ``Explainer.explain``.
    """

    pool: str | Path | None
    eye: Eye | str | None
    control: Control
    own_pictures: int | None
    labels: Sequence[str] | None
    segmenter: Segment | None
    clusters: Sequence[object] | None
    weights: Mapping[str, Mapping[str, float]] | None
    redraw: int
    ray: str | RayWorkers | None
    num_inference_steps: int | None
    guidance_scale: float | None
    callback: Callable[[Progress], None] | None
    progress: bool | None


@dataclass(frozen=True)
class Chosen:
    """Options of an audit, checked; ``draws`` says whether it draws pictures at all."""

    options: AuditOptions
    pool: Path | None
    eye: Eye | str | None
    callback: Callable[[Progress], None] | None
    weights: object
    ray: RayWorkers | None
    draws: bool

    @classmethod
    def of(cls, pictures: int, minimal_effect: float, level: float, explain: object, given: Auditing) -> "Chosen":
        """Check what a user has chosen.

        Args:
            pictures: of the pool at most; 0 where nothing is drawn.
            minimal_effect: effect up to which nothing is a finding.
            level: rate of false findings.
            explain: see ``Explainer.audit``.
            given: the other options.

        Raises:
            TypeError: an option of the wrong kind.
            ValueError: an option out of its range, or one for generated pictures where nothing is drawn.
        """
        check_explain(explain)
        eye, callback = given.get("eye", AUTO), given.get("callback")
        if eye is not None and eye != AUTO and not callable(eye):
            raise wrong_type("eye", '"auto", None, or a function of pixels', eye)
        check_bars(callback, given.get("progress"))
        pool = None if given.get("pool") is None else given_path("pool", given["pool"])
        control, own, redraw = given.get("control", "fdr"), given.get("own_pictures"), given.get("redraw", 0)
        draws = type(pictures) is not int or pictures != 0
        if not draws:
            for name, value in {"explain": explain, **{name: given.get(name) for name in _OF_DRAWN}}.items():
                if _holds_something(value):
                    wanted = "nothing where pictures is 0, because no picture is drawn"
                    raise wrong_value(name, wanted, type(value).__name__)
            pictures = AuditOptions.pictures
        options = AuditOptions(pictures, minimal_effect, level, control, own, redraw)
        return cls(options, pool, eye, callback, given.get("weights"), checked_ray(given.get("ray")), draws)


def run_audit(
    pipeline: Pipeline,
    sampler: DifferentiableSampler,
    classifier: Classifier,
    seed: int,
    targets: object,
    concepts: object,
    chosen: Chosen,
    explain: object,
    search: Searches,
    picturing: Picturing,
    intervening: Intervening,
    options: SamplerOptions,
) -> Audit:
    """Audit a classifier.

    Args:
        pipeline: draws the pictures.
        sampler: over the pipeline's modules.
        classifier: is asked about the pictures.
        seed: of captions and start latents.
        targets: see ``Explainer.audit``.
        concepts: see ``Explainer.audit``.
        chosen: the other options.
        explain: see ``Explainer.audit``.
        search: explains a target, with checkpoints in a folder.
        picturing: pictures of the user's own.
        intervening: interventions of the user's own.
        options: of the sampler, beside its steps and its guidance, for workers that make it again.
    """
    asked = concepts_of(concepts, pipeline)
    asked.check_labels(classifier.labels)
    phrases = phrases_of(asked, pipeline)
    drawing = Drawing(pipeline, sampler, seed)
    blank = torch.zeros(1, 3, *pipeline.image_size, device=pipeline.device, dtype=pipeline.dtype)
    readout = readout_of(classifier, targets, blank)
    own = None if chosen.eye is None or isinstance(chosen.eye, str) else _own_sight(chosen.eye, asked, phrases, blank)
    folder = cache_folder() / "pools" / pool_name(drawing) if chosen.pool is None else chosen.pool
    given, aside = found_by(explain, readout, pipeline), _aside(phrases, classifier, pipeline.device)
    pool = Pool(folder, drawing)
    sight = sight_of(asked, phrases, folder / _CAPTIONS) if isinstance(chosen.eye, str) else own
    question = Question(pool, readout, asked, phrases, sight, abs(seed), aside, chosen.weights, given)
    # All that the arguments can do wrong shows itself here, before the first picture is drawn.
    prepared = prepare(question.among(longest(asked, pipeline)), chosen.options, tokens_of(explain))
    picturing.check(question)
    begun = intervening.begin(prepared, None if picturing.given is None else picturing.given.pixels, chosen.callback)
    same = options | {"num_inference_steps": sampler.num_inference_steps, "guidance_scale": sampler.guidance_scale}
    with crew_of(chosen.ray, drawing, same) as pool.crew:
        left, screening = screened(pool, readout, asked, phrases, abs(seed), counter(chosen.callback, "screen"))
        if screening:
            prepared = prepare(question.among(left), chosen.options, tokens_of(explain))
        if explain is True:
            kept = kept_in(folder, classifier, sampler, search)
            prepared = prepared.with_found(searched(readout, pipeline, kept))
        audit = discover(prepared, chosen.callback)
    audit.settings["screened"] = screening
    picturing.add(audit, prepared.question, chosen.callback)
    intervening.add(audit, prepared, begun, chosen.callback)
    return audit


def _holds_something(value: object) -> bool:
    """Return whether an option is given and not empty; an array without a dimension has no length, but a value."""
    try:
        return len(value) > 0 if isinstance(value, Sized) else bool(value)
    except TypeError:
        return True


def _own_sight(eye: Eye, concepts: Concepts, phrases: Phrases, blank: Tensor) -> Sight:
    """Return the user's own eye, tried on a black picture, with its errors where pictures of known content exist."""
    look = checked_eye(eye, len(concepts.names))
    look(blank)
    known = phrases.of_tiny_world and concepts.groups
    errors = errors_in_tiny_world(lambda pixels: look(pixels.to(blank)), concepts) if known else None
    return Sight(look, OWN_EYE, errors, fingerprint_of(eye))


def _aside(phrases: Phrases, classifier: Classifier, device: torch.device) -> list[Classifier]:
    """Return the shipped classifiers of the tiny world except the audited one, where the concepts are the world's."""
    if not phrases.of_tiny_world:
        return []
    audited = classifier.fingerprint()
    shipped = (Classifier.from_pretrained(f"tinyworld/{name}", device=device) for name in classifier_names())
    return [one for one in shipped if one.truth is not None and one.fingerprint() != audited]
