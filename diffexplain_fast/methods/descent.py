"""The state of an optimisation and one step of it: all that a resumed run depends on is a value."""

import math
from dataclasses import dataclass, field
from typing import TypedDict

import torch
from torch import Tensor

from diffexplain_fast.methods.options import Options
from diffexplain_fast.methods.problem import Problem
from diffexplain_fast.methods.screening import Start
from diffexplain_fast.records import Count, Share
from diffexplain_fast.results import Iteration

ADAM_KEYS = ("exp_avg", "exp_avg_sq", "step")
_TINY = 1e-30


class Ranked(TypedDict):
    """Name and screening score of a start."""

    name: str
    score: float | None


class Validation(TypedDict):
    """Where a validation took place, and what it found."""

    attempt: Count
    step: Count
    rate: Share
    score: float


@dataclass
class State:
    """All that the rest of an optimisation depends on.

    Attributes:
        starts: soft tokens of the starts to try [k, n, d], in the vocabulary's own units.
        ranking: name and screening score of every start, the best first.
        soft: soft tokens [n, d] of the running attempt, in units of the embedding scale.
        adam: Adam's moments and step count; empty before the first step.
        best: the soft tokens [n, d] that validated best so far, in the vocabulary's own units.
        best_score: their rate (0 without a class, -1 before any validation) and mean score on those latents.
        best_attempt: index of the start they came from.
        attempt: index of the running start.
        step: steps done in this attempt.
        streak: steps in a row whose images all reached ``stop_probability``.
        finished: nothing is left to do.
        history: one record per step of every attempt.
        validations: attempt, step, rate and mean score of every validation.
    """

    starts: Tensor
    ranking: list[Ranked]
    soft: Tensor
    best: Tensor
    adam: dict[str, Tensor] = field(default_factory=dict)
    best_score: tuple[float, float] = (-1.0, 0.0)
    best_attempt: Count = 0
    attempt: Count = 0
    step: Count = 0
    streak: Count = 0
    finished: bool = False
    history: list[Iteration] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)


def new_state(problem: Problem, options: Options, starts: list[Start]) -> State:
    """Return the state before the first step; a target without a class has no rate and so tries one start only."""
    tried = starts[: 1 + options.restarts] if problem.target.label is not None else starts[:1]
    softs = torch.stack([start.soft for start in tried])
    ranking: list[Ranked] = [{"name": start.name, "score": start.score} for start in starts]
    return State(softs, ranking, softs[0] / problem.embedding_scale, softs[0])


def descend(options: Options, state: State, gradient: Tensor, longest: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the soft tokens and Adam's state after one step of AdamW without decay (zero is no natural embedding).

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
