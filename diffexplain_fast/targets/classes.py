"""Targets of classes: their logit, their probability, and the disagreement of two classifiers."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.targets.base import Bindable, Response, Target, terms_of
from diffexplain_fast.targets.outputs import REGRESSION, log_probability, no_probability


@dataclass(frozen=True)
class _ClassTarget(Target):
    label: int | str = field()
    name: str | None = field(default=None, repr=False, compare=False, kw_only=True)
    recordable = True

    def bind(self, classifier: Bindable) -> "_ClassTarget":
        index = classifier.label_index(self.label)
        return replace(self, label=index, name=class_name(classifier, index))

    def describe(self) -> str:
        return f"{type(self).__name__}({_text_of(self.label, self.name)})"


@dataclass(frozen=True)
class ClassLogit(_ClassTarget):
    """The logit of a class, or an output of a regression.

    For ``output="sigmoid"`` it is the log-odds of the class, for probabilities their logarithm ("probabilities") or
    their log-odds ("independent probabilities").

    Args:
        label: label or index of the class.

    Source: DiffExplainer (arXiv 2404.02618), equation 4, with the output layer's unit.
    """

    def __call__(self, response: Response) -> Tensor:
        return response.logits[:, _checked_index(response.logits, self.label)]


@dataclass(frozen=True)
class ClassProbability(_ClassTarget):
    """The log probability of a class, whose maximum is the minimum of the cross-entropy.

    It is log softmax(logits)_c if exactly one class is right, and log sigmoid(logits_c) for independent classes
    (``output="sigmoid"`` or "independent probabilities").

    Args:
        label: label or index of the class.

    Raises:
        ValueError: bound to a regression, unless the target was a bare label, which then means the output.

    Source: DiffExplainer (arXiv 2404.02618), equation 5.
    """

    bare: bool = field(default=False, repr=False, compare=False, kw_only=True)

    def bind(self, classifier: Bindable) -> _ClassTarget:
        if getattr(classifier, "output", None) != REGRESSION:
            return super().bind(classifier)
        if not self.bare:
            raise no_probability()
        return ClassLogit(self.label).bind(classifier)

    def __call__(self, response: Response) -> Tensor:
        return log_probability(response.logits, _checked_index(response.logits, self.label), response.output)


@dataclass(frozen=True)
class Disagreement(Target):
    """The difference of a class's log probability in two classifiers: log p(label) - log p_other(label).

    Args:
        other: another ``Classifier`` of the same images; its class is the class with the same label, or with the same
            index if it has no labels.
        label: label or index of the class in the classifier that is explained.

    Raises:
        TypeError: ``other`` is not a ``Classifier``.
        ValueError: bound to or with a regression, whose outputs have no probability.

    Source: DiG-IN (arXiv 2311.17833), maximal disagreement of two classifiers.
    """

    other: Bindable
    label: int | str = field()
    name: str | None = field(default=None, repr=False, compare=False, kw_only=True)
    other_label: int | None = field(default=None, repr=False, compare=False, kw_only=True)
    recordable = True

    def __post_init__(self) -> None:
        if not callable(self.other) or not hasattr(self.other, "label_index"):
            raise wrong_type("other", "a Classifier", self.other)

    def bind(self, classifier: Bindable) -> "Disagreement":
        """Return a copy with the label resolved in both classifiers."""
        if REGRESSION in (getattr(classifier, "output", None), getattr(self.other, "output", None)):
            raise no_probability()
        index = classifier.label_index(self.label)
        by_name = None not in (classifier.labels, self.other.labels) and classifier.labels != self.other.labels
        other_label = self.other.label_index(classifier.label_name(index) if by_name else index)
        return replace(self, label=index, name=class_name(classifier, index), other_label=other_label)

    def __call__(self, response: Response) -> Tensor:
        theirs = self.other.respond(response.pixels)
        other_label = _checked_index(theirs.logits, self.other_label)
        ours = log_probability(response.logits, _checked_index(response.logits, self.label), response.output)
        return ours - log_probability(theirs.logits, other_label, theirs.output)

    def describe(self) -> str:
        """Return the formula with the other classifier's name and the beginning of its fingerprint."""
        return f"Disagreement({self.other.name} {self.other.fingerprint()[:8]}, {_text_of(self.label, self.name)})"


def sole_output(target: Target) -> tuple[float, int] | None:
    """Return weight and index of the only output that a bound target reads, or None for any other target.

    Args:
        target: a bound target; ``-ClassLogit(0)`` gives (-1.0, 0).
    """
    (weight, term), *others = terms_of(target)
    if others or weight == 0 or not isinstance(term, ClassLogit) or not isinstance(term.label, int):
        return None
    return weight, term.label


def class_name(classifier: Bindable, index: int) -> str:
    """Return the label of a class, with its index if several classes share the label."""
    return classifier.label_name(index) if classifier.labels is None else distinct_name(classifier.labels, index)


def distinct_name(labels: Sequence[str], index: int) -> str:
    """Return the text that means one class and no other: its label, with its index if that is not enough.

    Args:
        labels: of all classes.
        index: of the class.
    """
    name = labels[index]
    if labels.count(name) > 1:
        name = with_index(name, index)
        while name in labels:  # "fish (0)" may be the label of another class
            name = with_index(name, index)
    return name


def told_apart(labels: Sequence[str]) -> list[str]:
    """Return a text for each class that means no other: its label, with the index of each that several classes share.

    Args:
        labels: of all classes.
    """
    shared = {label for label, count in Counter(labels).items() if count > 1}
    return [distinct_name(labels, index) if label in shared else label for index, label in enumerate(labels)]


def with_index(label: str, index: int) -> str:
    """Return the text that names one of several classes with the same label."""
    return f"{label} ({index})"


def shown_target(described: str, label: str | None) -> str:
    """Return the name of a result's target for a reader.

    Args:
        described: the formula of a bound target, as ``describe`` gives it.
        label: of the class whose recognition counts as a hit, None without one.

    Returns:
        The class where the target is one class's logit or probability by itself; the formula of any other target, which
        may have a label too: that of ``ClassLogit(fish) - 10 * ClassLogit(boat)`` is "fish".
    """
    for kind in (ClassLogit, ClassProbability):
        if label is not None and described == f"{kind.__name__}({label})":
            return label
        if label is not None and re.fullmatch(rf"{kind.__name__}\({re.escape(label)}( \(\d+\))+\)", described):
            return described[len(kind.__name__) + 1 : -1]
    return described


def _text_of(label: int | str, name: str | None) -> str:
    """Return how a class is written in a formula: by its name, which may be empty, else as it was asked for."""
    return str(label) if name is None else name


def _checked_index(logits: Tensor, label: int | str | None) -> int:
    if not isinstance(label, int):
        raise wrong_value("target", "a bound target: target.bind(classifier)", f"the unresolved label {label!r}")
    if not 0 <= label < logits.shape[1]:
        raise wrong_value("label", f"an index below {logits.shape[1]}, the number of logits", label)
    return label
