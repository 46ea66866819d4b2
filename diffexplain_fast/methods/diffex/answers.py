"""What the classifier says of pictures, on the scale of effects."""

from typing import NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.errors import NonFiniteError, describe
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.targets import ClassLogit, ClassProbability, Target
from diffexplain_fast.targets.base import checked_score, terms_of
from diffexplain_fast.targets.outputs import PROBABILITIES, REGRESSION, SOFTMAX, UNITS, is_hit, log_probability

_CLASS = ClassLogit | ClassProbability
"""Targets whose value is that of their class; any other one is scored by itself."""
_BATCH, _SHOWN = 32, 8
"""Pictures that are asked about at once, and numbers that a message has at most."""


class Said(NamedTuple):
    """What the classifier says of B pictures.

    Attributes:
        value: [B], for a class of which one is right its logit minus the mean of all finite logits, so that a class
            that is masked with -inf counts nowhere; for a class that is there or not its log-odds; else the target's
            score.
        probability: of the target class [B], NaN for a target without a class.
        hit: whether they are recognised as the target class, bool [B]; False for a target without a class.
        names: what the classifier calls each of them; "" for a target without a class.
    """

    value: Tensor
    probability: Tensor
    hit: Tensor
    names: list[str]


class Answers:
    """Asks a classifier about pictures.

    Args:
        classifier: adapter from ``models.classifier``.
        target: bound.
    """

    def __init__(self, classifier: Classifier, target: Target) -> None:
        self._classifier, self._target = classifier, target

    @property
    def label(self) -> int | None:
        """Index of the class that the target is about, None without one."""
        label = self._target.label
        known = label is not None and self._classifier.output != REGRESSION
        return self._classifier.label_index(label) if known and label is not None else None

    @property
    def name(self) -> str:
        """What the target is called: an output of a regression by its label, any other target by its description."""
        target = self._target
        if self._classifier.output == REGRESSION and isinstance(target, _CLASS):
            return str(target.name or target.label)
        return target.describe()

    @property
    def unit(self) -> str:
        """The unit of values: of the classifier's kind of output for a class or a sum of logits, else the target's own.

        A sum of probabilities, of units or of outputs of a regression has no other unit than its own.
        """
        output, alone = self._classifier.output or SOFTMAX, isinstance(self._target, _CLASS)
        logits = output != REGRESSION and all(isinstance(one, ClassLogit) for _, one in terms_of(self._target))
        return UNITS[output] if alone or logits else "the unit of the target"

    @torch.no_grad()
    def ask(self, pixels: Tensor) -> Said:
        """Return what the classifier says of pictures [B, 3, H, W] in [0, 1].

        Raises:
            NonFiniteError: an answer that is NaN or infinite; -inf for other classes than the target's is none.
        """
        rows = pixels.clamp(0, 1)
        parts = [self._ask(rows[start : start + _BATCH]) for start in range(0, len(rows), _BATCH)]
        value = torch.cat([part.value for part in parts]).double().cpu()
        probability = torch.cat([part.probability for part in parts]).double().cpu()
        hit = torch.cat([part.hit for part in parts]).cpu()
        return Said(value, probability, hit, [name for part in parts for name in part.names])

    def _ask(self, pixels: Tensor) -> Said:
        response = self._classifier.respond(pixels, self._target.layers)
        score, label = checked_score(self._target(response), response), self.label
        if label is None:
            self._check("target", "finite scores", score, score)
            nothing = torch.full_like(score, torch.nan)
            return Said(score, nothing, torch.zeros(len(score), dtype=torch.bool), [""] * len(score))
        logits, output = response.logits.float(), response.output
        self._check_logits(logits, label, output)
        hit = is_hit(logits, label, output)
        if output in (SOFTMAX, PROBABILITIES):
            own, names = (
                logits[:, label] - _finite_mean(logits),
                [self._classifier.label_name(i) for i in logits.argmax(1).tolist()],
            )
        else:
            own, name, other = logits[:, label], self._classifier.label_name(label), self._opposite(logits, label)
            names = [name if one else other for one in hit.tolist()]
        if not isinstance(self._target, _CLASS):
            self._check("target", "finite scores", score, own := score)
        return Said(own, log_probability(logits, label, output).exp(), hit, names)

    def _opposite(self, logits: Tensor, label: int) -> str:
        """Return what pictures are that are not answered with a class that is there or not.

        A single logit with two labels has become two, the second the negative of the first: there it is the other one.
        """
        two = logits.shape[1] == 2 and torch.equal(logits[:, 0], -logits[:, 1])
        return self._classifier.label_name(1 - label) if two else f"not {self._classifier.label_name(label)}"

    def _check_logits(self, logits: Tensor, label: int, output: str) -> None:
        """Refuse a target's logit that is not finite, and where one class is right any that is NaN or inf."""
        others = logits.nan_to_num(torch.inf, torch.inf, 0) if output in (SOFTMAX, PROBABILITIES) else logits[:, label]
        wanted = "finite logits, or -inf for classes other than the target's"
        self._check("classifier", wanted, torch.cat([logits[:, label, None], others.view(len(logits), -1)], 1), logits)

    def _check(self, argument: str, wanted: str, values: Tensor, said: Tensor) -> None:
        good = values.isfinite().view(len(values), -1).all(1)
        if not bool(good.all()):
            got = said[int(good.int().argmin())].view(-1)[:_SHOWN].tolist()
            name = self._classifier.name if argument == "classifier" else self._target.describe()
            raise NonFiniteError(describe(f"{argument} {name}", wanted, ", ".join(f"{value:.4g}" for value in got)))


def _finite_mean(logits: Tensor) -> Tensor:
    """Return the mean [B] of the finite ones of logits [B, C]."""
    finite = logits.isfinite()
    return logits.mean(1) if bool(finite.all()) else logits.where(finite, 0).sum(1) / finite.sum(1)
