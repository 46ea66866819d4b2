"""One audit from start to end: draw, ask the classifier, regress, and say what was found."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.evidence.calibration import Errors
from diffexplain_fast.methods.discovery.disobeyed import shown_concepts, told_groups
from diffexplain_fast.methods.discovery.drawn import own_pictures, pictures_beside
from diffexplain_fast.methods.discovery.found import found_features
from diffexplain_fast.methods.discovery.generator import generator_errors
from diffexplain_fast.methods.discovery.own import own_concept
from diffexplain_fast.methods.discovery.pairs import interactions_of, named_pairs
from diffexplain_fast.methods.discovery.phrasing import phrasing_errors, together
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.methods.discovery.prepared import Prepared
from diffexplain_fast.methods.discovery.redraw import asking_first, redraws
from diffexplain_fast.methods.discovery.rows import Trial, rows_of
from diffexplain_fast.methods.discovery.showing import with_showing
from diffexplain_fast.methods.discovery.shown import with_pictures
from diffexplain_fast.methods.discovery.target_units import target_units, with_generator_error
from diffexplain_fast.methods.discovery.trial import Measured, run_trial
from diffexplain_fast.methods.discovery.units import HiddenFeatures
from diffexplain_fast.methods.discovery.verdicts import verdicts_of
from diffexplain_fast.records import JsonObject
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.runs.progress import Progress, counter


def discover(prepared: Prepared, callback: Callable[[Progress], None] | None) -> Audit:
    """Run a trial and say what it found.

    Args:
        prepared: what is asked, with the captions.
        callback: receives a ``Progress`` after every unit of pictures; None for nobody.

    Raises:
        NonFiniteError: a picture or an answer with NaN or infinity.
        StorageError: pictures that cannot be stored.
    """
    began = time.perf_counter()
    question, options, plan = prepared.question, prepared.options, prepared.context
    pool, readout, concepts, sight = question.pool, question.readout, question.concepts, question.sight
    rule = prepared.rule
    own_places = [own_concept(concepts, label) for label in readout.labels]
    look = None if sight is None else sight.look
    heard = counter(callback, "own")
    again = redraws(question, plan, options.redraw, counter(callback, "again"))
    beside = partial(pictures_beside, prepared, report=heard)
    data, first, estimated, asking, more, every = run_trial(
        pool, plan, readout, own_places, look, rule, counter(callback, "draw"), again, beside
    )
    errors, used = None if sight is None else sight.errors, plan.first(len(data.values))
    judged = with_showing(*every, errors, estimated, asking, rule, concepts, own_places)
    told = told_groups(*every, errors, concepts)
    own = own_pictures(prepared, heard)
    asked = asking_first(used, first, own_places) if options.redraw else asking.estimate
    trial = Trial(concepts, readout, used, data, judged, asked, own, errors, rule.delta, rule.level, first)
    error, spread = generator_errors(pool, used, concepts, question.aside, first, errors)
    units = target_units(readout, data.values, spread)
    phrasing = phrasing_errors(used, data.values, concepts, units)
    grown = replace(trial, plan=every[0], data=every[1], first=None) if more else trial
    rows = rows_of(grown, with_generator_error(judged, used, concepts, together(error, phrasing), units))
    pairs, left = interactions_of(trial, pool, question.phrases, question.seed, counter(callback, "pairs"))
    found = found_features(question, trial, rows, counter(callback, "found"))
    verdicts, images = with_pictures(trial, pool, verdicts_of(trial, rows, pairs, found))
    settings = {
        **_settings(prepared, used),
        "generator_error": {group: one._asdict() for group, one in error.items()},
        "generator_spread": spread,
        "phrasing_error": {group: one._asdict() for group, one in phrasing.items()},
        "showing": [list(concepts.groups)[group] for group in told],
        "pictures_drawn": pool.drawn,
        "own_objects": prepared.need,
        "pairs_not_measured": named_pairs(trial, left),
        "pictures_beside": {readout.names[place]: count for place, count in more.items()},
        "seconds": time.perf_counter() - began,
    }
    return Audit(
        classifier=readout.classifier.name,
        rows=rows,
        interactions=pairs,
        found=found,
        verdicts=verdicts,
        settings=settings,
        images=images,
        outcomes=_arrays(used, data, errors, told),
        _hidden=HiddenFeatures(question, used, rule.level),
    )


def _settings(prepared: Prepared, used: Plan) -> JsonObject:
    """Return what decides an audit."""
    question = prepared.question
    readout, sight = question.readout, question.sight
    return {
        **prepared.options.record(),
        "looks": [{"pictures": look.pictures, "level": look.level} for look in prepared.rule.looks],
        "levels_after": {"own objects": prepared.rule.own_level, "showing": prepared.rule.shown_level},
        "concepts": question.concepts.record(),
        "phrasing": question.phrases.name,
        "seed": question.seed,
        "pool": question.pool.identity,
        "captions": hashlib.sha256("\n".join(used.captions).encode()).hexdigest(),
        "classifier_fingerprint": readout.classifier.fingerprint(),
        "output": readout.classifier.output,
        "eye": None if sight is None else sight.name,
        "eye_fingerprint": None if sight is None else sight.fingerprint,
        "targets": list(readout.names),
        "pictures_used": len(used.captions),
        "weights": question.shares,
        "effective_pictures": used.asked.effective,
        "versions": versions(),
        "device": device_record(),
    }


def _arrays(plan: Plan, data: Measured, errors: list[Errors] | None, told: list[int]) -> dict[str, np.ndarray]:
    arrays = {
        "design": plan.asked.design,
        "phrasing": plan.phrasing,
        "levels": np.array(plan.asked.levels, dtype=np.int64),
        "groups": np.array([plan.asked.groups], dtype=np.int64),
        "values": data.values,
        "hits": data.hits,
    }
    arrays |= {} if plan.asked.weights is None else {"weights": plan.asked.weights}
    if data.seen is None:
        return arrays
    shown = {"shown": shown_concepts(data.seen, errors, told)} if told and errors is not None else {}
    return {**arrays, "seen": data.seen, **shown}
