"""The generator's error is in logits; a target of another unit has it in proportion to its spread."""

import math

import numpy as np
import pytest
import torch

from diffexplain_fast.evidence.readout import Readout, readout_of
from diffexplain_fast.methods.discovery.phrasing import phrasing_errors, together
from diffexplain_fast.methods.discovery.target_units import target_units, usual_spread, with_generator_error
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.stats.cells import Judged, Rule, estimate, judge
from diffexplain_fast.stats.decisions import looks
from diffexplain_fast.stats.generator import GeneratorError
from diffexplain_fast.targets import ClassLogit, Neuron
from diffexplain_fast.targets.base import FunctionTarget
from tests.methods.discovery.test_phrasing import CONCEPTS, PICTURES, TARGETS, trial
from tests.tiny import LABELS, tiny_classifier

GENERATOR = {"background": GeneratorError(0.3, 0.2), "colour": GeneratorError(0.5, 0.0)}


def numbers(output: str = "regression") -> Readout:
    """Return a readout of eight outputs."""
    names = tuple(f"output {place}" for place in range(TARGETS))
    classifier = Classifier(tiny_classifier(), labels=LABELS, output=output)
    return Readout(classifier, names, names, tuple(range(TARGETS)), {})


def audited(scale: float) -> Judged:
    """Return the cells of a regression in another unit, with the errors of the generator and of phrasings."""
    plan, values = trial(0, 0.6)
    values = values * scale
    estimated = estimate(plan.asked, values, [None] * TARGETS, PICTURES)
    judged = judge(plan.asked, estimated, Rule(looks(PICTURES), 0.5 * scale, 0.05, "fdr", 0), 0.015)
    units = target_units(numbers(), values, 2.0)
    errors = together(GENERATOR, phrasing_errors(plan, values, CONCEPTS, units))
    return with_generator_error(judged, plan, CONCEPTS, errors, units)


@pytest.mark.parametrize("scale", [0.01, 100.0, 1e-6])
def test_a_change_of_unit_scales_the_intervals(scale: float) -> None:
    plain, scaled = audited(1.0), audited(scale)
    assert scaled.low / scale == pytest.approx(plain.low, rel=1e-6)
    assert scaled.high / scale == pytest.approx(plain.high, rel=1e-6)


def test_classes_have_the_error_in_their_own_logits() -> None:
    values = trial(0, 0.6)[1]
    for output in ("softmax", "sigmoid"):
        assert target_units(numbers(output), values, 2.0).tolist() == [1.0] * TARGETS
    outputs = target_units(numbers(), values, 2.0)
    assert outputs == pytest.approx(values.std(0) / 2)


def test_what_one_logit_is_for_each_kind_of_target() -> None:
    classifier = Classifier(tiny_classifier(), labels=LABELS, output="softmax")

    margin, seven = ClassLogit("boat") - ClassLogit("fish"), 7 * ClassLogit("tree")
    unit, mean = Neuron("layer1", 1), FunctionTarget(lambda response: response.pixels.mean((1, 2, 3)))
    readout = readout_of(classifier, ["boat", margin, seven, unit, mean, margin + unit], torch.zeros(1, 3, 32, 32))
    assert readout.logits.tolist() == pytest.approx([1, math.sqrt(2), 7, *[math.nan] * 3], nan_ok=True)


def test_the_usual_spread_is_that_of_logits_only() -> None:
    values = np.array([[0.0, 0, 0, 0], [2, 4, 12, 1000]])
    assert usual_spread(values, np.array([1, 1, 2, math.nan])) == 2.0  # deviations 1, 2 and 6 / 2
    assert usual_spread(values, np.full(4, math.nan)) == 1.0


def test_a_target_that_never_changes_has_no_error() -> None:
    assert target_units(numbers(), np.full((9, TARGETS), 3.0), 2.0).tolist() == [0.0] * TARGETS
