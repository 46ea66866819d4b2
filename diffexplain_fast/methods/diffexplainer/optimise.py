"""DiffExplainer: optimise soft tokens so that a diffusion model draws what a classifier responds to.

Source: Pennisi, Bellitto, Palazzo, Kavasidis, Shah, Spampinato, "DiffExplainer: Towards Cross-modal Global
Explanations with Diffusion Models", arXiv 2404.02618. With t = [prefix; v_1 ... v_n], v trainable, and
G(t) = D(sampler(z_T, tau(t))):

    E4, a unit or an output:  t* = argmax_t phi_j(G(t))
    E5, a class:              t* = argmin_t CE(phi(G(t)), c)

The target is phi_j (E4) or log softmax(phi)_c (E5, whose maximum is the minimum of the cross-entropy); the loss is its
negative mean over several start latents, plus lambda * mean_i min_w (1 - cos(v_i, E_w)), the pull to nearest tokens.
"""

import math
import time
from collections.abc import Callable

import torch

from diffexplain_fast.errors import NonFiniteError
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.scores import Scores
from diffexplain_fast.methods.diffexplainer.budget import STEPS
from diffexplain_fast.methods.diffexplainer.descent import descend
from diffexplain_fast.methods.diffexplainer.loss import loss_of
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.state import State, count_step
from diffexplain_fast.results.explanation import Iteration

_NATURAL_MARGIN = 0.05
"""Score by which a later state must beat one that already hits every time: the earlier is nearer to real words."""


def optimise(
    problem: Problem, options: Options, state: State, save: Callable[[State], None], report: Callable[[State], None]
) -> None:
    """Find the soft tokens that maximise the target (E4, E5).

    Args:
        problem: generator, classifier and target.
        options: see ``Options``.
        state: where to begin, a new one or one that ``save`` has received; changed in place, at the end its ``best`` is
            the result: the soft tokens that validated best.
        save: receives the state every ``checkpoint_every`` steps, at the end, and before a NonFiniteError is raised.
        report: receives the state after every step.

    Raises:
        NonFiniteError: a loss or gradient is NaN or infinite; names the iteration; ``last_good`` is the best before it.
    """
    while not state.finished:
        try:
            _advance(problem, options, state)
            if not state.finished and problem.cost.leaves_out(STEPS):
                _end(problem, options, state)
        except NonFiniteError as error:
            save(state)
            where = f"iteration {len(state.history)}: {error}"
            failure = NonFiniteError(
                f"{where}; the best state before it is in last_good, and in the checkpoint if there is one"
            )
            failure.last_good = state.best
            raise failure from error
        state.spent, state.left_out = problem.cost.record(), [*problem.cost.left_out]
        report(state)
        if state.finished or state.step % options.checkpoint_every == 0:
            save(state)


def _advance(problem: Problem, options: Options, state: State) -> None:
    """One step, and the validation and the end of the attempt that may follow from it."""
    if not state.validations or state.validations[-1]["attempt"] != state.attempt:
        _validate(problem, options, state)
    _step(problem, options, state)
    last, sure = state.step >= options.iterations, state.streak >= options.patience
    if last or sure or state.step % options.validate_every == 0:
        before = state.best_score
        rate = _validate(problem, options, state)
        perfect_before = problem.plain_class and before[0] == 1.0 and state.best_score == before
        if last or perfect_before or (sure and rate >= 1 - 1 / options.n_validation):
            _close_attempt(problem, options, state)
        elif sure:
            state.streak = 0


@torch.enable_grad()
def _step(problem: Problem, options: Options, state: State) -> None:
    began, number = time.perf_counter(), len(state.history)
    soft = state.soft.clone().requires_grad_()
    loss, scores = loss_of(problem, options, soft, number)
    value, norm = loss.item(), 0.0
    satisfied = _satisfied(problem, options, scores)
    if not satisfied:
        (gradient,) = torch.autograd.grad(loss, soft)
        norm = gradient.norm().item()
    if not math.isfinite(value) or not math.isfinite(norm):
        raise NonFiniteError(f"loss: wanted a finite loss and gradient, got loss {value} and gradient norm {norm}")
    if not satisfied:
        state.soft, state.adam = descend(options, state, gradient, problem.longest_embedding)
    state.streak = state.streak + 1 if satisfied else 0
    count_step(state, satisfied)
    logit = scores.logit.mean().item()
    state.history.append(Iteration(number, value, logit, norm, time.perf_counter() - began))


def _satisfied(problem: Problem, options: Options, scores: Scores) -> bool:
    """Whether every image is what is wanted already: a gradient would be noise, and normalised it would be a step."""
    if options.stop_probability is None or not problem.plain_class or scores.probability is None:
        return False
    return bool((scores.probability >= options.stop_probability).all())


def _validate(problem: Problem, options: Options, state: State) -> float:
    """Score the running soft tokens on the validation latents, keep them if they are the best, return their rate."""
    before = state.validations[-1] if state.validations else None
    if before and before["attempt"] == state.attempt and state.streak >= state.step - before["step"]:
        state.validations.append({**before, "step": state.step})  # no step since then has moved them
        return before["rate"]
    soft = state.soft * problem.embedding_scale
    with torch.no_grad():
        parts = [part for _, part in problem.batches(problem.encode_soft(soft), "validation", options.n_validation)]
    score = float(torch.cat([part.score for part in parts]).mean())
    hits = [part.hit for part in parts if part.hit is not None]
    rate = float(torch.cat(hits).float().mean()) if hits else 0.0
    state.validations.append({"attempt": state.attempt, "step": state.step, "rate": rate, "score": score})
    margin = _NATURAL_MARGIN if problem.plain_class and state.best_score[0] == 1.0 else 0.0
    if (rate, score) > (state.best_score[0], state.best_score[1] + margin):
        state.best, state.best_score, state.best_attempt = soft, (rate, score), state.attempt
    return rate


def _end(problem: Problem, options: Options, state: State) -> None:
    """Finish before the last step; steps that no validation has seen are validated, so that they are not lost."""
    if state.step and state.validations[-1]["step"] != state.step:
        _validate(problem, options, state)
    state.finished = True


def _close_attempt(problem: Problem, options: Options, state: State) -> None:
    """Finish, or turn to the next start while too few validation images are hits."""
    state.attempt += 1
    if state.best_score[0] >= options.restart_below or state.attempt == len(state.starts):
        state.finished = True
        return
    state.soft, state.adam = state.starts[state.attempt] / problem.embedding_scale, {}
    state.step = state.streak = 0
