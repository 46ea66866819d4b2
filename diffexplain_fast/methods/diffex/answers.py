"""What the classifier says of pictures, on the scale of effects; and what may be spent on drawing them."""

import time
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.errors import wrong_value
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.runs.spending import read_limit
from diffexplain_fast.targets import ClassLogit, ClassProbability, Target
from diffexplain_fast.targets.base import checked_score
from diffexplain_fast.targets.outputs import PROBABILITIES, REGRESSION, SOFTMAX, is_hit, log_probability

_BATCH = 32


class Said(NamedTuple):
    """What the classifier says of B pictures.

    Attributes:
        value: [B], for a class of which one is right its logit minus the mean of all logits; for a class that is there
            or not its log-odds; else the target's score.
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

    @torch.no_grad()
    def ask(self, pixels: Tensor) -> Said:
        """Return what the classifier says of pictures [B, 3, H, W] in [0, 1]."""
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
            nothing = torch.full_like(score, torch.nan)
            return Said(score, nothing, torch.zeros(len(score), dtype=torch.bool), [""] * len(score))
        logits, output = response.logits.float(), response.output
        hit = is_hit(logits, label, output)
        if output in (SOFTMAX, PROBABILITIES):
            own, names = (
                logits[:, label] - logits.mean(1),
                [self._classifier.label_name(i) for i in logits.argmax(1).tolist()],
            )
        else:
            name = self._classifier.label_name(label)
            own, names = logits[:, label], [name if one else f"not {name}" for one in hit.tolist()]
        plain = isinstance(self._target, ClassLogit | ClassProbability)
        return Said(own if plain else score, log_probability(logits, label, output).exp(), hit, names)


@dataclass
class Budget:
    """What may be spent on drawing.

    Attributes:
        models: whose rows are counted.
        rows: of the denoiser, None for no limit.
        seconds: of wall-clock time, None for no limit.
        used_up: whether something was left out for it.
        kept: number of a picture to the rows that are kept back for its redraws.
    """

    models: LatentModels
    rows: int | None = None
    seconds: float | None = None
    used_up: bool = False
    kept: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._began = time.perf_counter()

    @classmethod
    def of(cls, models: LatentModels, given: object) -> "Budget":
        """Return the budget that a caller wrote; see ``read_limit``."""
        limit = read_limit(given)
        return cls(models, limit.rows, limit.seconds)

    def late_by(self, seconds: float) -> None:
        """Count time that an interrupted run has spent before."""
        self._began -= seconds

    def release(self, picture: int) -> int:
        """Return the rows that are kept back for the redraws of a picture, and no longer keep them back."""
        return self.kept.pop(picture, 0)

    def require(self, rows: int) -> None:
        """Refuse a budget that does not even allow the rows of a first edit.

        Raises:
            ValueError: see above; the message says how many rows are needed.
        """
        if not self.allows(rows):
            wanted = f"enough for the caption and one edit, which take {self.models.denoiser_rows + rows} rows"
            raise wrong_value("budget", wanted, self.rows if self.seconds is None else f"{self.seconds} s")

    def allows(self, rows: int) -> bool:
        """Return whether so many more rows may be run beside those kept back, and remember where they may not.

        The time that rows kept back will take is guessed from that of all rows so far.
        """
        done, kept = self.models.denoiser_rows, sum(self.kept.values())
        seconds = (time.perf_counter() - self._began) * (1 + kept / done if done else 1)
        spent = self.rows is not None and done + rows + kept > self.rows
        late = self.seconds is not None and seconds > self.seconds
        self.used_up = self.used_up or spent or late
        return not (spent or late)
