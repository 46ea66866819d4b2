"""One step of the optimisation of soft tokens."""

import math

import torch
from torch import Tensor

from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.state import ADAM_KEYS, State

_TINY = 1e-30


def descend(options: Options, state: State, gradient: Tensor, longest: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the soft tokens and Adam's state after one step of AdamW without decay (zero is not a natural embedding).

    Tokens are kept from growing longer than every word is: steps of a fixed size only ever add length, and the text
    encoder normalises it away, gradient included.

    Args:
        options: ``lr``, ``cosine_schedule``, ``iterations`` and ``normalise_gradient`` matter here.
        state: state before the step; not changed.
        gradient: gradient of the loss [n, d] with respect to ``state.soft``.
        longest: length that no token may exceed, in the units of ``state.soft``.
    """
    if options.normalise_gradient:
        gradient = gradient / gradient.square().mean(-1, keepdim=True).sqrt().clamp_min(_TINY)
    fall = 0.5 * (1 + math.cos(math.pi * state.step / options.iterations)) if options.cosine_schedule else 1.0
    soft = state.soft.clone().requires_grad_()
    optimiser = torch.optim.AdamW([soft], lr=options.lr * fall, weight_decay=0.0)
    if state.adam:
        optimiser.state[soft] = {key: value.clone() for key, value in state.adam.items()}
    soft.grad = gradient
    optimiser.step()
    kept = soft.detach()
    kept = kept * (longest / kept.norm(dim=-1, keepdim=True).clamp_min(_TINY)).clamp_max(1.0)
    return kept, {key: optimiser.state[soft][key] for key in ADAM_KEYS}
