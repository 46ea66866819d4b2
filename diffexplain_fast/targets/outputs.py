"""The meaning of a classifier's numbers: five kinds of output, on one scale, with probability and hit of each."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from diffexplain_fast.errors import wrong_value

SOFTMAX, SIGMOID, REGRESSION = "softmax", "sigmoid", "regression"
PROBABILITIES, INDEPENDENT = "probabilities", "independent probabilities"
OUTPUTS = (SOFTMAX, SIGMOID, REGRESSION, PROBABILITIES, INDEPENDENT)
"""The kinds of output: logits of exclusive classes, log-odds of independent classes, numbers, probabilities of
exclusive classes, and probabilities of independent classes."""
UNITS = {
    **dict.fromkeys((SOFTMAX, PROBABILITIES), "logits"),
    **dict.fromkeys((SIGMOID, INDEPENDENT), "log-odds"),
    REGRESSION: "units of the outputs",
}
"""The unit of an effect, by the kind of output."""
_ONE_RIGHT = (SOFTMAX, PROBABILITIES)


def as_logits(values: Tensor, output: str) -> Tensor:
    """Return the output of a model [B, C] as logits: probabilities become their logarithm or log-odds.

    A probability p becomes log p for exclusive classes (whose softmax is p again), and log p - log(1 - p) for
    independent classes (whose sigmoid is p again). Zero and one are replaced by the nearest numbers of the model's
    dtype that have a logarithm in at least float32: a 1 that was rounded says no more.

    Args:
        values: output of the model [B, C].
        output: one of ``OUTPUTS``; except for the two kinds of probabilities, values are returned unchanged.
    """
    if output not in (PROBABILITIES, INDEPENDENT):
        return values
    exact = values.to(torch.promote_types(values.dtype, torch.float32))
    own = torch.finfo(values.dtype)
    least = max(own.tiny * own.eps, torch.finfo(exact.dtype).tiny)
    if output == PROBABILITIES:
        return exact.clamp_min(least).log()
    return exact.clamp_min(least).log() - (1 - exact).clamp_min(own.eps / 2).log()


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


def answers(logits: Tensor, output: str) -> Tensor:
    """Return which pictures are answered with which classes, bool [B, C].

    Of exclusive classes the answer is the argmax, of independent classes all with a probability above one half, and a
    regression answers with no class.

    Args:
        logits: [B, C], from ``as_logits``.
        output: one of ``OUTPUTS``.
    """
    if output == REGRESSION:
        return torch.zeros_like(logits, dtype=torch.bool)
    if output in _ONE_RIGHT:
        return logits.argmax(1, keepdim=True) == torch.arange(logits.shape[1], device=logits.device)
    return logits > 0


def is_hit(logits: Tensor, label: int, output: str) -> Tensor:
    """Return whether pictures are answered with a class, bool [B]; see ``answers``.

    Args:
        logits: [B, C], from ``as_logits``.
        label: index of the class.
        output: one of ``OUTPUTS``.
    """
    return answers(logits, output)[:, label]


def answered_class(logits: Tensor, output: str) -> Tensor | None:
    """Return the index of the answered class [B], or None where several classes, or none, may be right.

    Args:
        logits: [B, C], from ``as_logits``.
        output: one of ``OUTPUTS``.
    """
    return logits.argmax(1) if output in _ONE_RIGHT else None


def no_probability() -> ValueError:
    """Return (not raise) the error for a probability of a regression's output."""
    wanted = "a target with a meaning for a regression, such as ClassLogit or -ClassLogit (its output, or its negative)"
    return wrong_value("target", wanted, 'a class probability, which output="regression" does not have')
