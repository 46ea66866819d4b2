"""Targets of an explanation: small differentiable scores of a classifier's response, which add and scale."""

from diffexplain_fast.targets.base import Combination, FunctionTarget, Response, Target
from diffexplain_fast.targets.classes import ClassLogit, ClassProbability, Disagreement, shown_target, told_apart
from diffexplain_fast.targets.formulas import parse_target
from diffexplain_fast.targets.naming import as_target
from diffexplain_fast.targets.neurons import Neuron
from diffexplain_fast.targets.numbers import whole_number

__all__ = [
    "ClassLogit",
    "ClassProbability",
    "Combination",
    "Disagreement",
    "FunctionTarget",
    "Neuron",
    "Response",
    "Target",
    "as_target",
    "parse_target",
    "shown_target",
    "told_apart",
    "whole_number",
]
