"""Which units of a layer answer to which concept, in the pictures of a trial."""

import numpy as np
import torch

from diffexplain_fast.methods.discovery.plan import Plan
from diffexplain_fast.methods.discovery.question import Question
from diffexplain_fast.results.audit_rows import UnitRow
from diffexplain_fast.stats.cells import Rule, estimate, judge


@torch.no_grad()
def units_of_layer(question: Question, plan: Plan, rule: Rule, layer: str, top: int) -> list[UnitRow]:
    """Return the units with the largest effects, each with its strongest concept.

    Args:
        question: pool, classifier and concepts.
        plan: the captions of the pictures.
        rule: of the tests; the minimal effect counts in standard deviations of a unit.
        layer: dotted name of the layer.
        top: how many rows at most.

    Raises:
        UnknownNameError: the classifier has no such layer.
    """
    classifier, parts = question.readout.classifier, []
    name = classifier.resolve_layer(layer)
    for levels in question.pool.pictures(plan.stage, plan.captions, 0, len(plan.captions)):
        activation = classifier.respond(question.pool.as_pixels(levels), [name]).activations[name]
        means = activation.flatten(2).mean(2) if activation.ndim > 2 else activation
        parts.append(means.double().cpu().numpy())
    values = np.concatenate(parts)
    spread = values.std(0)
    none: list[int | None] = [None] * values.shape[1]
    estimated = estimate(plan.asked, values / np.where(spread > 0, spread, 1.0), none, len(values))
    judged = judge(plan.asked, estimated, rule, rule.level)
    best = np.nan_to_num(np.abs(judged.estimate)).argmax(0)
    strength = np.nan_to_num(np.abs(judged.estimate)).max(0)
    return [
        UnitRow(
            unit=unit,
            concept=question.concepts.names[best[unit]],
            effect=float(judged.estimate[best[unit], unit]),
            low=float(judged.low[best[unit], unit]),
            high=float(judged.high[best[unit], unit]),
            adjusted_p=float(judged.adjusted[best[unit], unit]),
        )
        for unit in np.argsort(-strength, kind="stable")[:top].tolist()
    ]
