"""The generator's own error, where it can be known: on classifiers whose truth was measured without the generator."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.known_truth import audit_truth, has_levels
from diffexplain_fast.evidence.pool import Pool
from diffexplain_fast.evidence.readout import readout_of
from diffexplain_fast.methods.discovery.own import own_concept
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.methods.discovery.trial import measured
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.stats.cells import Judged, estimate
from diffexplain_fast.stats.generator import GeneratorError, fit_generator_error, widened

_LEAST = 24
"""Cells of a group from which its error is fitted."""

Aside = Sequence[Classifier]
"""Classifiers with measured truth that are not audited."""


def generator_errors(pool: Pool, plan: Plan, concepts: Concepts, aside: Aside) -> dict[str, GeneratorError]:
    """Return the generator's error in every group, from classifiers that are kept aside.

    Args:
        pool: holds the pictures of the plan.
        plan: the captions of the pictures that the audit used.
        concepts: what was asked for.
        aside: the classifiers.
    """
    groups = np.array([name.partition(":")[0] for name in concepts.names])
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for classifier in aside:
        readout = readout_of(classifier, "all", pool.as_pixels(pool.blank()))
        values = measured(pool, plan, readout, None, 0, len(plan.captions), lambda done, total: None).values
        known = audit_truth(classifier.truth or {}, concepts.names)
        own = [own_concept(concepts, label) for label in readout.labels]
        levels = has_levels(classifier.truth or {})
        effects = estimate(plan.asked.unweighted(), values, own if levels else [None] * len(own), len(values)).effects
        truth = np.array(
            [[known.get((str(label), name), np.nan) for label in readout.labels] for name in concepts.names]
        )
        places = plan.asked.places
        measured_effects = _among_known(effects.estimate[places], truth, groups)
        for target, place in enumerate(own):
            if place is not None:
                truth[place, target] = np.nan
        parts.append((measured_effects, truth, effects.error[places]))
    if not parts:
        return {}
    errors = {}
    for group in dict.fromkeys(groups.tolist()):
        cells = (
            [np.concatenate([part[i][groups == group].ravel() for part in parts]) for i in range(3)] if parts else []
        )
        if cells and np.isfinite(sum(cells)).sum() >= _LEAST:
            errors[group] = fit_generator_error(*cells)
    return errors


def _among_known(estimate: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return effects against the median over the values whose truth is known, which is what the truth is against."""
    found = np.full_like(estimate, np.nan)
    for group in np.unique(groups):
        rows = groups == group
        known = np.where(np.isfinite(truth[rows]), estimate[rows], np.nan)
        for target in np.flatnonzero(np.isfinite(known).any(0)):
            found[rows, target] = estimate[rows, target] - np.nanmedian(known[:, target])
    return found


def with_generator_error(judged: Judged, plan: Plan, concepts: Concepts, errors: dict[str, GeneratorError]) -> Judged:
    """Return the cells with intervals that hold the generator's error too; what is found stays as it is.

    Args:
        judged: the cells.
        plan: the captions.
        concepts: what was asked for.
        errors: of the generator in some groups.
    """
    groups = [name.partition(":")[0] for name in concepts.names]
    none = GeneratorError(0.0, 0.0)
    deviation = np.stack([errors.get(group, none).deviation(judged.estimate[i]) for i, group in enumerate(groups)])
    full = np.zeros(judged.effects.estimate.shape)
    full[plan.asked.places] = deviation
    low, high = judged.interval_of(widened(judged.effects, full), plan.asked.places)
    # An interval of showing may be wider than that, or unbounded.
    return replace(judged, low=np.minimum(low, judged.low), high=np.maximum(high, judged.high))
