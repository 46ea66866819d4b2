"""One audit from start to end: draw, ask the classifier, regress, and say what was found."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.evidence.calibration import Sight
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.phrases import Phrases
from diffexplain_fast.evidence.pool import Pool
from diffexplain_fast.evidence.readout import Readout
from diffexplain_fast.methods.discovery.options import AuditOptions
from diffexplain_fast.methods.discovery.own import own_concept, spoken
from diffexplain_fast.methods.discovery.pairs import interactions_of
from diffexplain_fast.methods.discovery.plan import Plan, context_plan, own_plan
from diffexplain_fast.methods.discovery.rows import Trial, rows_of
from diffexplain_fast.methods.discovery.shown import with_pictures
from diffexplain_fast.methods.discovery.trial import Measured, measured, run_trial
from diffexplain_fast.methods.discovery.units import units_of_layer
from diffexplain_fast.methods.discovery.verdicts import verdicts_of
from diffexplain_fast.records import JsonObject
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.runs.progress import Progress, counter
from diffexplain_fast.stats.cells import Rule

OWN_GROUP = "object"
"""What a class's own object is called in a caption that names it beside the concepts."""


@dataclass(frozen=True)
class Question:
    """What an audit asks.

    Attributes:
        pool: draws and keeps pictures.
        readout: the classifier and its targets.
        concepts: what is asked for.
        phrases: how it is said.
        sight: sees concepts in pictures; None for none.
        seed: of the captions; the start latents follow from the pool's own.
    """

    pool: Pool
    readout: Readout
    concepts: Concepts
    phrases: Phrases
    sight: Sight | None
    seed: int


def discover(question: Question, options: AuditOptions, callback: Callable[[Progress], None] | None) -> Audit:
    """Run a trial and say what it found.

    Args:
        question: what is asked.
        options: how many pictures, and what counts as a finding.
        callback: receives a ``Progress`` after every unit of pictures; None for nobody.

    Raises:
        NonFiniteError: a picture or an answer with NaN or infinity.
        StorageError: pictures that cannot be stored.
    """
    began = time.perf_counter()
    pool, readout, concepts, sight = question.pool, question.readout, question.concepts, question.sight
    plan = context_plan(concepts, question.phrases, pool.pipeline, options.pictures, question.seed)
    rule = Rule(options.looks, options.minimal_effect, options.level, options.control, question.seed)
    report = counter(callback, "draw")
    own_places = [own_concept(concepts, label) for label in readout.labels]
    data, judged = run_trial(pool, plan, readout, own_places, None if sight is None else sight.look, rule, report)
    own, need = _own(question, options, counter(callback, "own"))
    used = plan.first(len(data.values))
    errors = None if sight is None else sight.errors
    trial = Trial(concepts, readout, used, data, judged, own, errors, options.minimal_effect, options.level)
    rows = rows_of(trial)
    pairs = interactions_of(trial, pool, question.phrases, question.seed, counter(callback, "pairs"))
    verdicts, images = with_pictures(trial, pool, verdicts_of(trial, rows, pairs))
    settings: JsonObject = {
        **options.record(),
        "concepts": concepts.record(),
        "phrasing": question.phrases.name,
        "seed": question.seed,
        "pool": pool.identity,
        "captions": hashlib.sha256("\n".join(used.captions).encode()).hexdigest(),
        "classifier_fingerprint": readout.classifier.fingerprint(),
        "output": readout.classifier.output,
        "eye": None if sight is None else sight.name,
        "targets": list(readout.names),
        "pictures_used": len(data.values),
        "pictures_drawn": pool.drawn,
        "own_objects": need,
        "seconds": time.perf_counter() - began,
        "versions": versions(),
        "device": device_record(),
    }
    return Audit(
        classifier=readout.classifier.name,
        rows=rows,
        interactions=pairs,
        verdicts=verdicts,
        settings=settings,
        images=images,
        outcomes=_arrays(used, data),
        _units=lambda layer, top: units_of_layer(question, used, rule, layer, top),
    )


def _own(
    question: Question, options: AuditOptions, report: Callable[[int, int], None]
) -> tuple[dict[int, tuple[Plan, Measured]], JsonObject]:
    """Return plan and data of pictures of own objects, by the place of the target; and what they take."""
    pool, readout = question.pool, question.readout
    needed = {
        place: spoken(label)
        for place, label in enumerate(readout.labels)
        if label is not None and own_concept(question.concepts, label) is None and pool.pipeline.spells(spoken(label))
    }
    count = options.own_count(len(needed))
    need: JsonObject = {"classes": len(needed), "pictures_each": count}
    if not count:
        pictures = options.pictures // 4
        need["plan"] = f"own_pictures={pictures} draws {pictures * len(needed)} pictures more" if needed else ""
        return {}, need
    own = {}
    for place, name in needed.items():
        plan = own_plan(
            question.concepts, question.phrases, pool.pipeline, count, question.seed, (OWN_GROUP, name)
        ).first(count)
        own[place] = plan, measured(pool, plan, readout, None, 0, count, report)
    return own, need


def _arrays(plan: Plan, data: Measured) -> dict[str, np.ndarray]:
    arrays = {
        "design": plan.asked.design,
        "phrasing": plan.phrasing,
        "levels": np.array(plan.asked.levels, dtype=np.int64),
        "groups": np.array([plan.asked.groups], dtype=np.int64),
        "values": data.values,
        "hits": data.hits,
    }
    return arrays if data.seen is None else {**arrays, "seen": data.seen}
