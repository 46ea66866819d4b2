"""What the classifier says about images, in the terms of a target."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class Scores(NamedTuple):
    """What the classifier says about B images.

    Attributes:
        score: target score [B], to be maximised.
        logit: logit of the target class [B]; the target score where the target has no class.
        probability: probability of the target class [B], None without a class.
        hit: whether the target class is the argmax, bool [B], None without a class.
    """

    score: Tensor
    logit: Tensor
    probability: Tensor | None
    hit: Tensor | None


def scores_of(said: Sequence[Tensor], label: int | None) -> Scores:
    """Return the scores of B images.

    Args:
        said: target score [B], and logits [B, C] where the target has a class.
        label: that class.
    """
    score, *rest = said
    if label is None:
        return Scores(score, score, None, None)
    (logits,) = rest
    return Scores(score, logits[:, label], logits.softmax(1)[:, label], logits.argmax(1) == label)
