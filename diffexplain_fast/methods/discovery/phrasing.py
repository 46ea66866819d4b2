"""What a phrasing adds to the effect of a word: the effects within each phrasing, and how much more they differ than
chance lets them."""

import math

import numpy as np

from diffexplain_fast.evidence.concepts import Concepts
from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.stats.cells import concept_effects
from diffexplain_fast.stats.generator import LEAST_PHRASINGS, GeneratorError, fit_generator_error

_SPARE = 12
"""Pictures of a phrasing beyond the terms of its regression."""
_LARGE = 1.0
"""Effects above this, in logits, tell by how much an error grows with the effect; smaller ones are mostly noise."""
_LEAST = 24
"""Differences of a group from which its error is fitted."""


def phrasing_errors(
    plan: Plan, values: np.ndarray, concepts: Concepts, units: np.ndarray | float = 1.0
) -> dict[str, GeneratorError]:
    """Return the error of the mean over the phrasings that were used, in every group.

    Phrasings are random draws from all that people may say. The effect of a word within each phrasing is its own
    regression; its deviations from the mean, beyond their sampling errors, are normal with a^2 + (b effect)^2, fitted
    over all values of a group and all targets. The mean over J phrasings has that variance over J.

    Args:
        plan: the captions of the pictures that were used.
        values: of the targets, float [pictures, targets].
        concepts: what was asked for.
        units: what counts as one logit in the unit of every target, [targets]; a target with 0 does not change.

    Returns:
        The errors, in logits; none where there are fewer than 4 phrasings, or too few pictures of one.
    """
    numbers = np.unique(plan.phrasing)
    counts = [int((plan.phrasing == number).sum()) for number in numbers]
    least = max(plan.asked.terms + _SPARE, plan.asked.most_terms + 1)
    if len(numbers) < LEAST_PHRASINGS or min(counts) < least:
        return {}
    places, parts, values = plan.asked.places, [], values / np.where(np.asarray(units) > 0, units, 1.0)
    for number in numbers:
        rows = plan.phrasing == number
        parts.append(concept_effects(plan.asked.part(rows), values[rows])[1])
    effects = np.stack([part.estimate[places] for part in parts])  # [phrasings, concepts, targets]
    errors = np.stack([part.error[places] for part in parts])
    mean = np.broadcast_to(effects.mean(0), effects.shape)
    large = np.where(np.abs(mean) > _LARGE, mean, 0.0)
    # A deviation from the mean of J has (J - 1) / J of the variance of one from the true mean.
    apart = large + (effects - mean) * math.sqrt(len(numbers) / (len(numbers) - 1))
    groups = np.array([name.partition(":")[0] for name in concepts.names])
    found = {}
    for group in dict.fromkeys(groups.tolist()):
        cells = [array[:, groups == group].ravel() for array in (apart, large, errors)]
        if np.isfinite(sum(cells)).sum() >= _LEAST:
            a, b = fit_generator_error(*cells)
            found[group] = GeneratorError(a / math.sqrt(len(numbers)), b / math.sqrt(len(numbers)))
    return found


def together(first: dict[str, GeneratorError], second: dict[str, GeneratorError]) -> dict[str, GeneratorError]:
    """Return the errors of two independent sources as those of one: their squares add up."""
    none = GeneratorError(0.0, 0.0)
    return {
        group: GeneratorError(
            *(math.hypot(*pair) for pair in zip(first.get(group, none), second.get(group, none), strict=True))
        )
        for group in {**first, **second}
    }
