"""What a classifier says of many pictures at once: one number for every target, and which target each picture has."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffexplain_fast.errors import NonFiniteError, describe, wrong_type, wrong_value
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.targets import (
    ClassLogit,
    ClassProbability,
    Combination,
    Disagreement,
    Response,
    Target,
    as_target,
)
from diffexplain_fast.targets.base import terms_of
from diffexplain_fast.targets.classes import class_name, shown_target
from diffexplain_fast.targets.outputs import PROBABILITIES, REGRESSION, SOFTMAX, answers

_ONE_RIGHT = (SOFTMAX, PROBABILITIES)


@dataclass(frozen=True)
class Readout:
    """A classifier, and the targets that are read from its answers.

    Attributes:
        classifier: adapter from models.classifier.
        names: of the targets; two classes of one label have their index in the name.
        labels: of the targets that are classes, None for others.
        classes: index of the class, None for other targets.
        others: bound targets that are read by themselves, by their place: those that are not classes, and log
            probabilities that were asked for by name.
    """

    classifier: Classifier
    names: tuple[str, ...]
    labels: tuple[str | None, ...]
    classes: tuple[int | None, ...]
    others: dict[int, Target]

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return what is said of pictures.

        Where one class is right, the value of a class is its logit minus the mean over all classes: a number that is
        added to all logits changes no answer, so it changes no value. The same holds for every logit in a sum of
        targets. A ``ClassProbability`` has its log probability, and a bare label the logit.

        Args:
            pixels: [B, 3, H, W] in [0, 1], on the classifier's device.

        Returns:
            Values float64 [B, targets], and bool [B, targets]: whether the picture is answered with the target, False
            for targets that are not classes.

        Raises:
            NonFiniteError: an answer, or the score of another target, is NaN or infinite; names it.
        """
        layers = [layer for target in self.others.values() for layer in target.layers]
        response = self.classifier.respond(pixels, layers)
        logits = response.logits.double().cpu()
        if not logits.isfinite().all():
            raise NonFiniteError(f"answers: wanted finite answers of {self.classifier.name}, got NaN or inf")
        values, hits = np.zeros((len(pixels), len(self.names))), np.zeros((len(pixels), len(self.names)), dtype=bool)
        places = [place for place, index in enumerate(self.classes) if index is not None]
        columns = [index for index in self.classes if index is not None]
        shift = logits.mean(1) if response.output in _ONE_RIGHT else torch.zeros(len(logits), dtype=logits.dtype)
        if columns:
            values[:, places] = (logits - shift[:, None])[:, columns].numpy()
            hits[:, places] = answers(logits, response.output)[:, columns].numpy()
        for place, target in self.others.items():
            values[:, place] = _score(target, self.names[place], response) - shift.numpy() * _logits_in(target)
        return values, hits

    @property
    def answers(self) -> bool:
        """Whether the classifier answers with classes: a regression does not."""
        return self.classifier.output != REGRESSION

    def spoken(self, place: int) -> str:
        """Return what a target is called where pictures are answered with it: its class, or its name without one.

        Args:
            place: of the target.
        """
        return shown_target(self.names[place], self.labels[place])

    @property
    def logits(self) -> np.ndarray:
        """What one logit is in the unit of every target, float [targets]; NaN for a target that is not in logits.

        It is 1 for a class, and the root of the sum of the squared weights for a sum of classes, such as a margin.
        Outputs of a regression, neurons and functions are not in logits.
        """
        if self.classifier.output == REGRESSION:
            return np.full(len(self.names), np.nan)
        return np.array([_logits(self.others[i]) if i in self.others else 1.0 for i in range(len(self.names))])


def readout_of(classifier: Classifier, targets: object, pixels: Tensor) -> Readout:
    """Return what reads targets from a classifier.

    Args:
        classifier: adapter from models.classifier.
        targets: "all" for every class; a label, an index or another target; or a list of them.
        pixels: [1, 3, H, W], to find out how many classes there are.

    Raises:
        TypeError: something else.
        ValueError: no target, a target twice, an unknown label or layer.
    """
    with torch.no_grad():
        count = classifier(pixels).shape[1]
    if isinstance(targets, str) and targets == "all" and "all" not in (classifier.labels or ()):
        wanted: list[Target] = [ClassLogit(index) for index in range(count)]
    elif isinstance(targets, Sequence) and not isinstance(targets, str):
        wanted = [as_target(target) for target in targets]
    else:
        wanted = [as_target(targets)]
    if not wanted:
        raise wrong_value("targets", '"all", or at least one target', "none")
    bound = [target.bind(classifier) for target in wanted]
    classes = [_class_of(target) for target in bound]
    shown = [None if index is None else classifier.label_name(index) for index in classes]
    plain = [index is not None and not _by_name(target) for target, index in zip(bound, classes, strict=True)]
    names = [
        class_name(classifier, index) if index is not None and one else target.describe()
        for target, index, one in zip(bound, classes, plain, strict=True)
    ]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise wrong_value("targets", "every target once", f"{', '.join(repeated)} twice")
    others = {place: target for place, target in enumerate(bound) if not plain[place]}
    return Readout(classifier, tuple(names), tuple(shown), tuple(classes), others)


def _class_of(target: Target) -> int | None:
    plain = isinstance(target, ClassLogit | ClassProbability)
    return int(target.label) if plain and target.label is not None else None


def _by_name(target: Target) -> bool:
    """Return whether a target is the log probability of a class, and not what a bare label means."""
    return isinstance(target, ClassProbability) and not target.bare


def _logits_in(target: Target) -> float:
    """Return how many logits of classes a target adds up: the sum of their weights."""
    if isinstance(target, Combination):
        return sum(weight * _logits_in(term) for weight, term in target.terms)
    return float(isinstance(target, ClassLogit))


def _logits(target: Target) -> float:
    """Return what one logit is in the unit of a target; NaN where a part of it is not in logits."""
    terms = terms_of(target)
    in_logits = all(isinstance(term, ClassLogit | ClassProbability | Disagreement) for _, term in terms)
    return math.hypot(*(weight for weight, _ in terms)) if in_logits else math.nan


def _score(target: Target, name: str, response: Response) -> np.ndarray:
    score = target(response)
    if not isinstance(score, Tensor) or score.shape != (len(response.pixels),):
        raise wrong_type("target", "one that returns scores [B]", score)
    found: np.ndarray = score.detach().double().cpu().numpy()
    if wrong := int((~np.isfinite(found)).sum()):
        got = f"NaN or inf in {wrong} of {len(found)} pictures"
        raise NonFiniteError(describe("target", f"finite scores of {name}", got))
    return found
