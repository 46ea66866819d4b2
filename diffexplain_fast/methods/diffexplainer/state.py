"""The state of an optimisation: all that a resumed run depends on is a value."""

from dataclasses import dataclass, field
from typing import TypedDict

import torch
from torch import Tensor

from diffexplain_fast.evidence.cost import Spent
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.screening import Start
from diffexplain_fast.records import Count, Share
from diffexplain_fast.results.explanation import Iteration
from diffexplain_fast.results.named import Named

ADAM_KEYS = ("exp_avg", "exp_avg_sq", "step")


class _Named(TypedDict):
    name: str
    score: float | None


class Ranked(_Named, total=False):
    """Name and score of a start, how it was found, and its name in words; earlier states lack the last two."""

    origin: str
    named: Named | None


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
        spent: rows of the denoiser and seconds.
        words: texts that were screened.
        left_out: names of the work that was left out because the budget was spent; see ``budget``.
        named: whether the best prompt has been named after the last step, or the budget did not allow it.
        convinced: steps whose pictures all convinced, so that no gradient was computed.
        convinced_each: the same of each attempt.
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
    spent: Spent = field(default_factory=lambda: Spent(forward=0, gradient=0, seconds=0.0))
    words: Count = 0
    left_out: list[str] = field(default_factory=list)
    named: bool = False
    convinced: Count = 0
    convinced_each: list[Count] = field(default_factory=list)


def new_state(problem: Problem, options: Options, starts: list[Start]) -> State:
    """Return the state before the first step; a target without a class has no rate and so tries one start only."""
    tried = starts[: 1 + options.restarts] if problem.has_rate else starts[:1]
    softs = torch.stack([start.soft for start in tried])
    ranking = [_ranked(start) for start in starts]
    return State(softs, ranking, softs[0] / problem.embedding_scale, softs[0])


def count_step(state: State, convinced: bool) -> None:
    """Count a step of the running attempt, and whether all its pictures convinced."""
    state.step += 1
    state.convinced += convinced
    state.convinced_each += [0] * (state.attempt + 1 - len(state.convinced_each))
    state.convinced_each[state.attempt] += convinced


def still_steps(state: State) -> list[Count]:
    """Return the steps of each attempt whose gradient is zero, or was not computed because all pictures convinced."""
    steps = {entry["attempt"]: entry["step"] for entry in state.validations}
    if not state.finished:
        steps[state.attempt] = state.step
    found, left = list[Count](), [item.gradient_norm == 0 for item in state.history]
    for _, count in sorted(steps.items()):
        found.append(sum(left[:count]))
        left = left[count:]
    return found


def tuned_on(options: Options, state: State) -> range:
    """Return the numbers of the training latents of the steps that led to the best state, and of no other attempt.

    Where no step bettered the start of its attempt, they are those of all steps of that attempt.

    Args:
        options: pictures of a step, and whether each step has latents of its own.
        state: at the end of the optimisation.
    """
    if not options.fresh_latents:
        return range(options.images_per_step)
    steps = {entry["attempt"]: entry["step"] for entry in state.validations}
    before = sum(count for attempt, count in steps.items() if attempt < state.best_attempt)
    own = [entry for entry in state.validations if entry["attempt"] == state.best_attempt]
    best = next((entry["step"] for entry in own if (entry["rate"], entry["score"]) == state.best_score), 0)
    end = before + (best or own[-1]["step"])
    return range(before * options.images_per_step, end * options.images_per_step)


def has_moved(state: State) -> bool:
    """Whether steps of the gradient bettered the start of the best state."""
    start = state.starts[state.best_attempt]
    return not torch.allclose(state.best, start, rtol=1e-5, atol=0)  # a change of units rounds, a step is far larger


def _ranked(start: Start) -> Ranked:
    ranked = Ranked(name=start.name, score=start.score, origin=start.origin)
    if start.named is not None:
        ranked["named"] = start.named
    return ranked
