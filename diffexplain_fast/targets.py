"""What to explain: small differentiable scores of a classifier's response, which add and scale."""

import math
import numbers
import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from diffexplain_fast.errors import UnknownNameError, describe, wrong_type, wrong_value


@dataclass(frozen=True)
class Response:
    """What a classifier says about B images.

    Attributes:
        pixels: the images [B, 3, H, W] in [0, 1].
        logits: class logits [B, C].
        activations: output of each layer that was asked for, under the name or module it was asked by.
    """

    pixels: Tensor
    logits: Tensor
    activations: Mapping[str | nn.Module, Tensor] = field(default_factory=dict)


class Target(ABC):
    """A score per image, to be maximised; targets add, subtract and scale.

    Attributes:
        label: once bound, index of the class whose argmax counts as a hit, None if the target has no class.
        layers: the layers whose activations the target reads.
    """

    label: Any
    layers: Any = ()

    @abstractmethod
    def bind(self, classifier: Any) -> "Target":
        """Return a copy with labels and layers resolved.

        Args:
            classifier: a ``Classifier``; nothing is run.

        Raises:
            UnknownNameError: a label, layer or unit the classifier does not have; the message names the five nearest.
        """

    @abstractmethod
    def __call__(self, response: Response) -> Tensor:
        """Return the score [B] of each image, differentiable in its pixels."""

    @abstractmethod
    def describe(self) -> str:
        """Return the formula, for instance ``ClassLogit(boat) + 0.5 * Neuron(layer4, 17)``."""

    def __add__(self, other: object) -> "Target":
        return Combination((*_terms(self), *_terms(other))) if isinstance(other, Target) else NotImplemented

    def __radd__(self, other: object) -> "Target":
        return self if type(other) is int and other == 0 else NotImplemented  # what sum() starts from

    def __sub__(self, other: object) -> "Target":
        return self + -1.0 * other if isinstance(other, Target) else NotImplemented

    def __neg__(self) -> "Target":
        return -1.0 * self

    def __mul__(self, factor: object) -> "Target":
        if not isinstance(factor, numbers.Real) or isinstance(factor, bool):
            return NotImplemented
        if not math.isfinite(factor):
            raise wrong_value("factor of a target", "a finite number", factor)
        return Combination(tuple((float(factor) * weight, target) for weight, target in _terms(self)))

    __rmul__ = __mul__


@dataclass(frozen=True)
class Combination(Target):
    """A weighted sum of targets, as pairs of weight and target."""

    terms: tuple[tuple[float, Target], ...]

    @property
    def label(self) -> Any:
        """Class of the term with the largest positive weight that has a class, the first among equals."""
        positive = [(weight, target.label) for weight, target in self.terms if weight > 0 and target.label is not None]
        return max(positive, key=operator.itemgetter(0))[1] if positive else None

    @property
    def layers(self) -> tuple[str | nn.Module, ...]:
        return tuple(dict.fromkeys(layer for _, target in self.terms for layer in target.layers))

    def bind(self, classifier: Any) -> "Combination":
        return Combination(tuple((weight, target.bind(classifier)) for weight, target in self.terms))

    def __call__(self, response: Response) -> Tensor:
        (first, *others) = (weight * target(response) for weight, target in self.terms)
        return sum(others, start=first)

    def describe(self) -> str:
        text = ""
        for weight, target in self.terms:
            sign = ("-" if weight < 0 else "") if not text else (" - " if weight < 0 else " + ")
            text += sign + (f"{abs(weight):.12g} * " if abs(weight) != 1 else "") + target.describe()
        return text


def _terms(target: Target) -> tuple[tuple[float, Target], ...]:
    return target.terms if isinstance(target, Combination) else ((1.0, target),)


@dataclass(frozen=True)
class _ClassTarget(Target):
    label: int | str
    name: str | None = field(default=None, repr=False, compare=False, kw_only=True)

    def bind(self, classifier: Any) -> "_ClassTarget":
        index = classifier.label_index(self.label)
        return replace(self, label=index, name=_class_name(classifier, index))

    def describe(self) -> str:
        return f"{type(self).__name__}({self.name or self.label})"


@dataclass(frozen=True)
class ClassLogit(_ClassTarget):
    """The logit of a class.

    Args:
        label: label or index of the class.

    Source: DiffExplainer (arXiv 2404.02618), equation 4, with the output layer's unit.
    """

    def __call__(self, response: Response) -> Tensor:
        return _column(response.logits, self.label)


@dataclass(frozen=True)
class ClassProbability(_ClassTarget):
    """The log probability of a class, log softmax(logits)_c, whose maximum is the minimum of the cross-entropy.

    Args:
        label: label or index of the class.

    Source: DiffExplainer (arXiv 2404.02618), equation 5.
    """

    def __call__(self, response: Response) -> Tensor:
        return _log_probability(response.logits, self.label)


@dataclass(frozen=True)
class Neuron(Target):
    """The activation of a unit: the mean over positions of channel ``unit`` in a layer's output.

    Args:
        layer: dotted name of a module of the classifier, or the module.
        unit: channel of an output [B, C, H, W], feature of an output [B, T, D] or [B, D]; from 0.

    Raises:
        TypeError: a layer that is neither name nor module, a unit that is no whole number.
        ValueError: a negative unit; when called, an output of another rank, or with fewer units.

    Source: DiffExplainer (arXiv 2404.02618), equation 4.
    """

    layer: str | nn.Module
    unit: int
    label = None

    def __post_init__(self) -> None:
        if not isinstance(self.layer, str | nn.Module):
            raise wrong_type("layer", "a dotted name or a module", self.layer)
        unit = whole_number("unit", self.unit)
        if unit < 0:
            raise wrong_value("unit", "a number from 0", unit)
        object.__setattr__(self, "unit", unit)

    @property
    def layers(self) -> tuple[str | nn.Module, ...]:
        return (self.layer,)

    def bind(self, classifier: Any) -> "Neuron":
        """Return a copy with the layer's dotted name; the unit is checked where the module says how many it has."""
        name, units = classifier.resolve_layer(self.layer), classifier.layer_units(self.layer)
        if units is not None and self.unit >= units:
            raise _unknown_unit(name, self.unit, units)
        return replace(self, layer=name)

    def __call__(self, response: Response) -> Tensor:
        output = response.activations[self.layer]
        if output.ndim not in (2, 3, 4):
            raise wrong_value(f"output of {self.layer}", "shape [B, C, H, W], [B, T, D] or [B, D]", list(output.shape))
        axis = 1 if output.ndim == 4 else -1
        if self.unit >= output.shape[axis]:
            raise _unknown_unit(str(self.layer), self.unit, output.shape[axis])
        return output.select(axis, self.unit).flatten(1).mean(1) if output.ndim > 2 else output[:, self.unit]

    def describe(self) -> str:
        return f"Neuron({self.layer if isinstance(self.layer, str) else type(self.layer).__name__}, {self.unit})"


@dataclass(frozen=True)
class Disagreement(Target):
    """How much more probable a class is here than for another classifier: log p(label) - log p_other(label).

    Args:
        other: another ``Classifier`` of the same images; its class is the one of the same label, or of the same index
            if it has no labels.
        label: label or index of the class in the classifier that is explained.

    Source: DiG-IN (arXiv 2311.17833), maximal disagreement of two classifiers.
    """

    other: Any
    label: int | str
    name: str | None = field(default=None, repr=False, compare=False, kw_only=True)
    other_label: int | None = field(default=None, repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        if not callable(self.other) or not hasattr(self.other, "label_index"):
            raise wrong_type("other", "a Classifier", self.other)

    def bind(self, classifier: Any) -> "Disagreement":
        """Return a copy with the label resolved in both classifiers."""
        index = classifier.label_index(self.label)
        by_name = None not in (classifier.labels, self.other.labels) and classifier.labels != self.other.labels
        other_label = self.other.label_index(classifier.label_name(index) if by_name else index)
        return replace(self, label=index, name=_class_name(classifier, index), other_label=other_label)

    def __call__(self, response: Response) -> Tensor:
        theirs = _log_probability(self.other(response.pixels), self.other_label)
        return _log_probability(response.logits, self.label) - theirs

    def describe(self) -> str:
        """Return the formula with the other classifier's name and the beginning of its fingerprint."""
        return f"Disagreement({self.other.name} {self.other.fingerprint()[:8]}, {self.name or self.label})"


def as_target(x: Any) -> Target:
    """Return what a user names as a target.

    Args:
        x: a class index or label (its probability is explained), "layer:unit" (that neuron), or a target.

    Raises:
        TypeError: anything else.
        ValueError: nothing: None or an empty string; a tensor that is no scalar.
    """
    if isinstance(x, Target):
        return x
    if x is None or (isinstance(x, str) and not x.strip()):
        raise wrong_value("target", "a class index, a label or a target", "nothing: the target is empty")
    if isinstance(x, str):
        layer, _, unit = x.rpartition(":")
        return Neuron(layer, int(unit)) if layer and unit.isascii() and unit.isdigit() else ClassProbability(x)
    if isinstance(x, Tensor) and x.ndim != 0:
        raise wrong_value("target", "a scalar class index", f"a tensor of shape {list(x.shape)}")
    return ClassProbability(whole_number("target", x, "a class index, a label or a target"))


def whole_number(argument: str, x: Any, wanted: str = "a whole number") -> int:
    """Return an integer of any library as an int; anything else, a boolean or fraction too, raises a TypeError."""
    if isinstance(x, bool) or (isinstance(x, Tensor) and x.dtype == torch.bool):
        raise wrong_type(argument, wanted, x)
    try:
        return operator.index(x)
    except TypeError as error:
        raise wrong_type(argument, wanted, x) from error


def _class_name(classifier: Any, index: int) -> str:
    """Return the label of a class, with its index where several classes share the label."""
    name = classifier.label_name(index)
    return f"{name} #{index}" if (classifier.labels or ()).count(name) > 1 else name


def _column(logits: Tensor, label: Any) -> Tensor:
    if not isinstance(label, int):
        raise wrong_value("target", "a bound target: target.bind(classifier)", f"the unresolved label {label!r}")
    if not 0 <= label < logits.shape[1]:
        raise wrong_value("label", f"an index below {logits.shape[1]}, the number of logits", label)
    return logits[:, label]


def _log_probability(logits: Tensor, label: Any) -> Tensor:
    return _column(logits.log_softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32)), label)


def _unknown_unit(layer: str, unit: int, units: int) -> UnknownNameError:
    nearest = ", ".join(str(known) for known in range(max(0, units - 5), units))
    return UnknownNameError(describe("unit", f"one of {units} units of {layer}, nearest: {nearest}", unit))
