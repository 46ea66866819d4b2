"""The base of every target: a differentiable score of a classifier's response; targets add and scale."""

import math
import numbers
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.targets.outputs import SOFTMAX


@dataclass(frozen=True)
class Response:
    """The response of a classifier to B images.

    Attributes:
        pixels: the images [B, 3, H, W] in [0, 1].
        logits: class logits [B, C]; for a model of probabilities their logarithms or log-odds, for a regression its
            outputs.
        activations: output of each requested layer, by the name or module that requested it.
        output: meaning of the logits, one of ``targets.outputs.OUTPUTS``.
        apart: the requested layers whose outputs do not have one row for each image first, such as [T, B, D].
    """

    pixels: Tensor
    logits: Tensor
    activations: Mapping[str | nn.Module, Tensor] = field(default_factory=dict)
    output: str = SOFTMAX
    apart: Collection[str | nn.Module] = ()


class Bindable(Protocol):
    """The methods of a classifier that targets use."""

    @property
    def model(self) -> object:
        """The module or function."""

    @property
    def name(self) -> str:
        """Name of the classifier in results."""

    @property
    def labels(self) -> Sequence[str] | None:
        """Names of the classes, None if they have none."""

    @property
    def output(self) -> str | None:
        """Meaning of its numbers, one of ``targets.outputs.OUTPUTS``; None until it is known."""

    def label_index(self, label: int | str) -> int:
        """Return the index of a class."""

    def label_name(self, index: int) -> str:
        """Return the label of a class."""

    def resolve_layer(self, layer: str | nn.Module) -> str:
        """Return the dotted name of a layer."""

    def layer_units(self, layer: str | nn.Module) -> int | None:
        """Return the number of units of a layer, or None if its module does not say it."""

    def respond(self, pixels: Tensor, layers: Iterable[str | nn.Module] = ()) -> Response:
        """Run the classifier."""

    def fingerprint(self) -> str:
        """Return a text that distinguishes the classifier from others."""


class Target:
    """A score per image, to be maximised; targets add, subtract and scale.

    A user's target derives from this class and defines ``__call__``; a function of one ``Response`` that returns scores
    [B] is a target too. A subclass may also define ``label``, ``layers``, ``bind`` and ``describe``.

    Attributes:
        label: in a bound target, index of the class whose recognition counts as a hit; None without a class.
        layers: the layers whose activations the target reads.
        recordable: True if the score depends only on the response, so that calls may be recorded into CUDA graphs.
    """

    if TYPE_CHECKING:  # read-only, so that a subclass may compute them

        @property
        def label(self) -> int | str | None: ...
        @property
        def layers(self) -> Sequence[str | nn.Module]: ...
        @property
        def recordable(self) -> bool: ...
    else:
        label, layers, recordable = None, (), False

    def bind(self, classifier: Bindable) -> "Target":
        """Return a copy with labels and layers resolved, or the same target if it names none.

        Args:
            classifier: a ``Classifier``; it is not run.

        Raises:
            UnknownNameError: a label, layer or unit that the classifier does not have; the message names the five
                nearest.
            ValueError: a target that has no meaning for the classifier's kind of output.
        """
        return self

    def __call__(self, response: Response) -> Tensor:
        """Return the score [B] of each image, differentiable in its pixels."""
        raise NotImplementedError(
            f"{type(self).__name__}: wanted a __call__(response) that returns scores [B], got none"
        )

    def describe(self) -> str:
        """Return the formula for results, such as ``ClassLogit(boat) + 0.5 * Neuron(layer4, 17)``."""
        return type(self).__name__

    def __add__(self, other: object) -> "Target":
        return Combination((*terms_of(self), *terms_of(other))) if isinstance(other, Target) else NotImplemented

    def __radd__(self, other: object) -> "Target":
        return self if type(other) is int and other == 0 else NotImplemented  # sum() starts with 0

    def __sub__(self, other: object) -> "Target":
        return self + -1.0 * other if isinstance(other, Target) else NotImplemented

    def __neg__(self) -> "Target":
        return -1.0 * self

    def __mul__(self, factor: object) -> "Target":
        if not isinstance(factor, numbers.Real) or isinstance(factor, bool):
            return NotImplemented
        if not math.isfinite(factor):
            raise wrong_value("factor of a target", "a finite number", factor)
        return Combination(tuple((float(factor) * weight, target) for weight, target in terms_of(self)))

    __rmul__ = __mul__

    def __truediv__(self, divisor: object) -> "Target":
        if not isinstance(divisor, numbers.Real) or isinstance(divisor, bool):
            return NotImplemented
        if not math.isfinite(divisor) or divisor == 0:
            raise wrong_value("divisor of a target", "a finite number that is not 0", divisor)
        return Combination(tuple((weight / float(divisor), target) for weight, target in terms_of(self)))


@dataclass(frozen=True)
class Combination(Target):
    """A weighted sum of targets, stored as pairs of weight and target."""

    terms: tuple[tuple[float, Target], ...]

    @property
    def label(self) -> int | str | None:
        """Class of the term with the largest positive weight that has a class, the first among equals."""
        positive = [(weight, target.label) for weight, target in self.terms if weight > 0 and target.label is not None]
        return max(positive, key=operator.itemgetter(0))[1] if positive else None

    @property
    def layers(self) -> tuple[str | nn.Module, ...]:
        return tuple(dict.fromkeys(layer for _, target in self.terms for layer in target.layers))

    @property
    def recordable(self) -> bool:
        return all(target.recordable for _, target in self.terms)

    def bind(self, classifier: Bindable) -> "Combination":
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


@dataclass(frozen=True)
class FunctionTarget(Target):
    """A function of the user as a target.

    Args:
        function: function from a ``Response`` to scores [B].
    """

    function: Callable[[Response], Tensor]

    def __call__(self, response: Response) -> Tensor:
        return self.function(response)

    def describe(self) -> str:
        return getattr(self.function, "__qualname__", None) or type(self.function).__qualname__


def terms_of(target: Target) -> tuple[tuple[float, Target], ...]:
    """Return pairs of weight and target whose sum is the target."""
    return target.terms if isinstance(target, Combination) else ((1.0, target),)


def checked_score(score: object, response: Response) -> Tensor:
    """Return the score of a target after a check, because it may come from the user's code.

    Args:
        score: value that the target returned.
        response: response with which the target was called.

    Raises:
        TypeError: the score is not a tensor.
        ValueError: another shape than [B], or another dtype than floating point.
    """
    count = len(response.pixels)
    if not isinstance(score, Tensor):
        raise wrong_type("target", f"one that returns a tensor of scores [{count}]", score)
    if score.shape != (count,) or not score.is_floating_point():
        raise wrong_value("target", f"floating point scores [{count}]", f"{list(score.shape)} in {score.dtype}")
    if response.pixels.requires_grad and torch.is_grad_enabled() and not score.requires_grad:
        raise wrong_value("target", "a score differentiable in the pixels", "one without a gradient")
    return score
