"""The generator's own error, where it can be known: on classifiers whose truth was measured without the generator."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from diffexplain_fast.evidence.calibration import Errors
from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.evidence.known_truth import audit_truth, has_levels
from diffexplain_fast.evidence.pool import Pool
from diffexplain_fast.evidence.readout import Readout, readout_of
from diffexplain_fast.methods.discovery.own import own_concept, shown_by_chance
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.methods.discovery.showing import shown_effects
from diffexplain_fast.methods.discovery.target_units import usual_spread
from diffexplain_fast.methods.discovery.trial import Measured
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.stats.cells import estimate
from diffexplain_fast.stats.generator import GeneratorError, fit_generator_error

_LEAST = 24
"""Cells of a group from which its error is fitted."""
_LARGE = 1.0
"""Effects above this, in logits, tell by how much an error grows with the effect; below it that is mostly noise."""
_FEW = 4
"""Large effects of a group below which those of all groups together tell how its error grows."""
_USUAL_GROWTH = 0.1
"""By how much an error grows with an effect where all groups together have few large effects, so that none tells it:
about what the shipped classifiers tell for one group of backgrounds."""

Aside = Sequence[Classifier]
"""Classifiers with measured truth that are not audited."""


class Fitted(NamedTuple):
    """The generator's error in every group, in logits, and the usual standard deviation of the logits it is fitted on.

    Attributes:
        errors: of every group that tells something.
        spread: median over the classes of the classifiers, over the pictures of the audit; 1 where nothing is known.
    """

    errors: dict[str, GeneratorError]
    spread: float


def generator_errors(
    pool: Pool, plan: Plan, concepts: Concepts, aside: Aside, drawn: Measured, eye: Sequence[Errors] | None
) -> Fitted:
    """Return the generator's error in every group, from classifiers that are kept aside.

    Their effects are estimated as those of the audit: of showing where words are disobeyed.

    Args:
        pool: holds the pictures of the plan.
        plan: the captions of the pictures that the audit used.
        concepts: what was asked for.
        aside: the classifiers.
        drawn: what was said of the pictures as they were drawn first.
        eye: errors of the eye in every group; None where they are not known.
    """
    if not aside:
        return Fitted({}, 1.0)
    groups, places = np.array([name.partition(":")[0] for name in concepts.names]), plan.asked.places
    readouts = [readout_of(classifier, "all", pool.as_pixels(pool.blank())) for classifier in aside]
    edges = np.cumsum([0, *(len(readout.labels) for readout in readouts)]).tolist()
    families = [range(first, last) for first, last in pairwise(edges)]
    own = [[own_concept(concepts, label) for label in readout.labels] for readout in readouts]
    averaged = [
        place if has_levels(classifier.truth or {}) else None
        for classifier, its in zip(aside, own, strict=True)
        for place in its
    ]
    chance = shown_by_chance(concepts, plan.asked)
    # The classifiers are one trial with many targets: what depends on the captions only is computed once.
    said, plain = _said(pool, plan, readouts, drawn.seen), replace(plan, asked=plan.asked.unweighted())
    effects = estimate(plain.asked, said.values, averaged, len(said.values)).effects
    shown = shown_effects(plain, said, eye, effects, averaged, 0.05, concepts, families)
    effects = effects if shown is None else shown.effects
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for readout, its, targets in zip(readouts, own, families, strict=True):
        apart = [str(label) for label, place in zip(readout.labels, its, strict=True) if place is None]
        known = audit_truth(readout.classifier.truth or {}, concepts.names, dict.fromkeys(apart, chance))
        truth = np.array(
            [[known.get((str(label), name), np.nan) for label in readout.labels] for name in concepts.names]
        )
        measured_effects = _among_known(effects.estimate[places][:, targets], truth, groups)
        for target, place in enumerate(its):
            if place is not None:
                truth[place, target] = np.nan
        parts.append((measured_effects, truth, effects.error[places][:, targets]))
    cells = {group: _cells(parts, groups == group) for group in dict.fromkeys(groups.tolist())}
    fitted = fitted_errors({group: own for group, own in cells.items() if len(own[0]) >= _LEAST})
    return Fitted(fitted, usual_spread(said.values, np.concatenate([readout.logits for readout in readouts])))


def _said(pool: Pool, plan: Plan, readouts: Sequence[Readout], seen: np.ndarray | None) -> Measured:
    """Return what several classifiers say of the pictures of a plan, the targets of one after those of another."""
    pictures = map(pool.as_pixels, pool.pictures(plan.stage, plan.captions, 0, len(plan.captions)))
    said = [[readout(pixels) for readout in readouts] for pixels in pictures]
    values, hits = (np.concatenate([np.concatenate([one[i] for one in row], 1) for row in said]) for i in (0, 1))
    return Measured(values, hits, seen)


def _cells(parts: Sequence[tuple[np.ndarray, ...]], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return estimates, truths and errors of some concepts of all classifiers, where all three are known."""
    estimates, truths, errors = (np.concatenate([part[i][rows].ravel() for part in parts]) for i in range(3))
    known = np.isfinite(estimates + truths + errors)
    return estimates[known], truths[known], errors[known]


def fitted_errors(cells: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, GeneratorError]:
    """Return the error of every group: what is there without an effect, and by how much it grows with a large one.

    Args:
        cells: of every group: estimates, true effects and sampling errors, float [cells] each. A group of few large
            effects tells nothing of the growth, which is then that of all groups together, or the usual one.
    """
    if not cells:
        return {}
    everything = [np.concatenate([own[i] for own in cells.values()]) for i in range(3)]
    usual, found = _USUAL_GROWTH if _has_few(everything[1]) else _fit(*everything).b, {}
    for group, (estimates, truths, errors) in cells.items():
        own = _fit(estimates, truths, errors)
        found[group] = GeneratorError(own.a, usual) if _has_few(truths) else own
    return found


def _has_few(truths: np.ndarray) -> bool:
    return bool((np.abs(truths) > _LARGE).sum() < _FEW)


def _fit(estimates: np.ndarray, truths: np.ndarray, errors: np.ndarray) -> GeneratorError:
    large = np.where(np.abs(truths) > _LARGE, truths, 0.0)
    return fit_generator_error(estimates - truths + large, large, errors)


def _among_known(estimate: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return effects against the median over the values whose truth is known, which is what the truth is against."""
    found = np.full_like(estimate, np.nan)
    for group in np.unique(groups):
        rows = groups == group
        known = np.where(np.isfinite(truth[rows]), estimate[rows], np.nan)
        for target in np.flatnonzero(np.isfinite(known).any(0)):
            found[rows, target] = estimate[rows, target] - np.nanmedian(known[:, target])
    return found
