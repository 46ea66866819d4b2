"""What the classifier says about images, in the terms of a target."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from diffexplain_fast.targets.outputs import REGRESSION, SOFTMAX, is_hit, log_probability


class Scores(NamedTuple):
    """What the classifier says about B images.

    Attributes:
        score: target score [B], to be maximised.
        logit: logit of the target class [B]; for a regression the output itself; the target score where the target has
            no class.
        probability: probability of the target class [B], None without a class and for a regression.
        hit: whether the images are recognised as the target class, bool [B], None without a class and for a regression.
    """

    score: Tensor
    logit: Tensor
    probability: Tensor | None
    hit: Tensor | None


def scores_of(said: Sequence[Tensor], label: int | None, output: str = SOFTMAX) -> Scores:
    """Return the scores of B images.

    Args:
        said: target score [B], and logits [B, C] where the target has a class.
        label: that class, or that output of a regression.
        output: what the logits mean, one of ``targets.outputs.OUTPUTS``.
    """
    score, *rest = said
    if label is None:
        return Scores(score, score, None, None)
    (logits,) = rest
    if output == REGRESSION:
        return Scores(score, logits[:, label], None, None)
    probability = log_probability(logits, label, output).exp()
    return Scores(score, logits[:, label], probability, is_hit(logits, label, output))
