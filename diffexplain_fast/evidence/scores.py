"""The scores of images: the classifier's answers in terms of a target."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from diffexplain_fast.targets.outputs import REGRESSION, SOFTMAX, answered_class, is_hit, log_probability


class Scores(NamedTuple):
    """The scores of B images.

    Attributes:
        score: target score [B], to be maximised.
        logit: logit of the target class [B]; for a regression its output; for a target without a class its score.
        probability: probability of the target class [B], None without a class and for a regression.
        hit: bool [B], True for images that are recognised as the target class; None without a class and for a
            regression.
        answer: index of the answered class [B], None where several classes, or none, may be right.
    """

    score: Tensor
    logit: Tensor
    probability: Tensor | None
    hit: Tensor | None
    answer: Tensor | None = None

    @property
    def known(self) -> Tensor:
        """Whether the answer to an image is no NaN, bool [B]: of exclusive classes NaN in any makes all unknown."""
        unknown = self.logit.isnan()
        return ~(unknown if self.probability is None else unknown | self.probability.isnan())


def scores_of(answers: Sequence[Tensor], label: int | None, output: str = SOFTMAX) -> Scores:
    """Return the scores of B images.

    Args:
        answers: target score [B] and, if the target has a class, logits [B, C].
        label: the class, or the output of a regression.
        output: meaning of the logits, one of ``targets.outputs.OUTPUTS``.
    """
    score, *rest = answers
    if label is None:
        return Scores(score, score, None, None)
    (logits,) = rest
    if output == REGRESSION:
        return Scores(score, logits[:, label], None, None)
    probability = log_probability(logits, label, output).exp()
    hit, answer = is_hit(logits, label, output), answered_class(logits, output)
    return Scores(score, logits[:, label], probability, hit, answer)
