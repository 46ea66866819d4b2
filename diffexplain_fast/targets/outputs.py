"""What the numbers of a classifier mean: five kinds of output, put on one scale, and what follows from each."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from diffexplain_fast.errors import wrong_value

SOFTMAX, SIGMOID, REGRESSION = "softmax", "sigmoid", "regression"
PROBABILITIES, INDEPENDENT = "probabilities", "independent probabilities"
OUTPUTS = (SOFTMAX, SIGMOID, REGRESSION, PROBABILITIES, INDEPENDENT)
"""Logits of classes of which one is right; log-odds of classes that are each there or not; numbers; and the
probabilities that a model gives itself, of classes of which one is right, or of each class for itself."""
_ONE_RIGHT = (SOFTMAX, PROBABILITIES)


def as_logits(values: Tensor, output: str) -> Tensor:
    """Return what a model gives [B, C] on the scale that adds up: probabilities as their logarithm or log-odds.

    With p a probability, log p of classes of which one is right (their softmax is p again), log p - log(1 - p) of
    classes that are each there or not (their sigmoid is p again). Zero and one are taken for the nearest numbers that
    have a logarithm.

    Args:
        values: what the model gives [B, C].
        output: one of ``OUTPUTS``; all but the two kinds of probabilities are returned as they are.
    """
    if output not in (PROBABILITIES, INDEPENDENT):
        return values
    exact = values.to(torch.promote_types(values.dtype, torch.float32))
    least = torch.finfo(exact.dtype).tiny
    if output == PROBABILITIES:
        return exact.clamp_min(least).log()
    return exact.clamp_min(least).log() - (1 - exact).clamp_min(torch.finfo(exact.dtype).eps / 2).log()


def log_probability(logits: Tensor, label: int, output: str) -> Tensor:
    """Return the log probability [B] of a class; half precision is computed in float32.

    Args:
        logits: [B, C], from ``as_logits``.
        label: index of the class.
        output: one of ``OUTPUTS``.

    Raises:
        ValueError: a regression, whose outputs have no probability.
    """
    if output == REGRESSION:
        raise no_probability()
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return exact.log_softmax(1)[:, label] if output in _ONE_RIGHT else logsigmoid(exact[:, label])


def is_hit(logits: Tensor, label: int, output: str) -> Tensor:
    """Return whether pictures are recognised as a class, bool [B]: it is the argmax, or its own probability is above
    one half.

    Args:
        logits: [B, C], from ``as_logits``.
        label: index of the class.
        output: one of ``OUTPUTS``, no regression.
    """
    return logits.argmax(1) == label if output in _ONE_RIGHT else logits[:, label] > 0


def no_probability() -> ValueError:
    """Return (not raise) the error for a probability of a regression's output."""
    wanted = "a target with a meaning for a regression, such as ClassLogit or -ClassLogit (its output, or its negative)"
    return wrong_value("target", wanted, 'a class probability, which output="regression" does not have')
