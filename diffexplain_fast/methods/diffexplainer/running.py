"""Search, optimisation and naming of one explanation, from the start or from where a checkpoint left them."""

from collections.abc import Callable
from functools import partial

import torch

from diffexplain_fast.errors import NoRoomError, keeping
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.album import album_of
from diffexplain_fast.methods.diffexplainer.budget import NAMING
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.likeness import ask_again
from diffexplain_fast.methods.diffexplainer.naming import name_found
from diffexplain_fast.methods.diffexplainer.optimise import optimise
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.population import check_search
from diffexplain_fast.methods.diffexplainer.screening import Start, with_few_steps
from diffexplain_fast.methods.diffexplainer.starts import choose_starts
from diffexplain_fast.methods.diffexplainer.state import State, has_moved, new_state
from diffexplain_fast.runs.checkpoint import Checkpoints
from diffexplain_fast.runs.progress import Progress, counter

SEARCHED = ("gradient", "description")
"""Origins of prompts that a search found, without words."""
Callback = Callable[[Progress], None]


def optimised(
    problem: Problem,
    options: Options,
    checkpoints: Checkpoints[State] | None,
    callback: Callback | None,
) -> State:
    """Return the state at the end of the optimisation, continued from a checkpoint if there is one.

    Args:
        problem: what is explained.
        options: how to search and to optimise.
        checkpoints: of the run, None for none.
        callback: receives a ``Progress`` after every step; None for nobody.

    Raises:
        ValueError: a limit of memory into which a step or the search does not fit, before anything is drawn.
    """
    state = checkpoints.load(torch.device(problem.pipeline.device)) if checkpoints else None
    if state is None or not state.finished:  # one step at least is taken, whatever the budget
        _check_room(problem, options, searches=state is None and options.start == "gradient" and options.budget is None)
    if state is None:
        kept = Kept(album_of(problem), checkpoints.scores() if checkpoints else {}, problem.cost)
        reports = counter(callback, "screen"), counter(callback, "search")
        starts = choose_starts(problem, options, label_of(problem), kept, *reports)
        state = new_state(problem, options, starts)
        state.spent, state.words, state.left_out = problem.cost.record(), kept.words, [*problem.cost.left_out]
        if checkpoints:
            checkpoints.save(state)
    else:
        problem.cost.add(**state.spent)
        problem.cost.left_out.extend(state.left_out)

    def report_step(state: State) -> None:
        if callback is None:
            return
        done, last = len(state.history), state.history[-1]
        left = 0 if state.finished else options.iterations - state.step
        each = sum(item.seconds for item in state.history) / done
        callback(Progress("optimise", done, done + left, last.loss, last.logit, each * left))

    save = checkpoints.save if checkpoints else lambda state: None
    with keeping("last_good", lambda: state.best):
        optimise(problem, options, state, save, report_step)
    return state


def name_result(
    problem: Problem,
    options: Options,
    state: State,
    checkpoints: Checkpoints[State] | None = None,
    callback: Callback | None = None,
) -> None:
    """Name the best prompt of a finished optimisation in its ranking, if a search found it and it has no name yet.

    Words that were proposed as a name are no words any more where steps of the gradient bettered them.

    Args:
        problem: what is explained.
        options: as in ``name_found``.
        state: at the end of the optimisation; changed in place.
        checkpoints: of the run, which hold the scores of an interrupted naming, and the name at its end.
        callback: receives a ``Progress`` before and after.
    """
    best = state.ranking[state.best_attempt]
    origin, moved = best.get("origin"), has_moved(state)
    is_named = state.named or (best.get("named") and not moved)
    searched = origin in SEARCHED or (origin == "proposals" and moved)
    if is_named or not searched or not problem.plain_class:
        return
    best.pop("named", None)
    report = counter(callback, "name")
    report(0, 1)
    if not problem.cost.leaves_out(NAMING):
        kept = Kept(scores=checkpoints.scores() if checkpoints else {}, cost=problem.cost)
        ask_again(problem)
        score = None if moved else best["score"]  # of the start, on the validation latents
        best["named"], _ = name_found(problem, options, Start(best["name"], state.best, score), kept)
        state.words += kept.words
    report(1, 1)
    state.named, state.spent, state.left_out = True, problem.cost.record(), [*problem.cost.left_out]
    if checkpoints:
        checkpoints.save(state)


def _check_room(problem: Problem, options: Options, searches: bool) -> None:
    """Refuse a limit into which a step, or the search before it, does not fit, by the one that needs more."""
    checks = [partial(problem.check_room, options.n_tokens, options.images_per_step)]
    if searches:
        checks.append(partial(check_search, with_few_steps(problem, options), options))
    refusals: list[NoRoomError] = []
    for check in checks:
        try:
            check()
        except NoRoomError as refusal:
            refusals.append(refusal)
    if refusals:
        raise max(refusals, key=lambda refusal: refusal.least)


def label_of(problem: Problem) -> str | None:
    """Return the name of the target class, None without a class or a name."""
    label, classifier = problem.label, problem.classifier
    return None if label is None or classifier.labels is None else classifier.label_name(label)
