"""One explanation from start to end: choose the starts, optimise, and score on unseen draws."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from diffexplain_fast.evidence.evaluation import evaluate
from diffexplain_fast.evidence.identity import NEWER, answers_of, identity_of
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.optimise import optimise
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.screening import Kept
from diffexplain_fast.methods.diffexplainer.settings import configuration_of, settings_of
from diffexplain_fast.methods.diffexplainer.starts import choose_starts
from diffexplain_fast.methods.diffexplainer.state import State, new_state
from diffexplain_fast.methods.diffexplainer.state_files import STATE_FILES
from diffexplain_fast.results.explanation import Explanation, Word
from diffexplain_fast.results.truth import checked_truth
from diffexplain_fast.runs.checkpoint import Checkpoints
from diffexplain_fast.runs.progress import Progress, counter
from diffexplain_fast.targets.outputs import SOFTMAX

Callback = Callable[[Progress], None]
Screened = dict[tuple[object, ...], dict[tuple[object, ...], list[Tensor]]]
"""Pictures of screened words by sampler and by words; see ``Kept``."""

_NEAREST = 5
"""Vocabulary words reported for each soft token."""


def explain_otherwise(
    problem: Problem,
    options: Options,
    screened: Screened,
    first: Explanation,
    modes: int,
    checkpoint: str | Path | None = None,
    callback: Callback | None = None,
) -> None:
    """Add further explanations of the same target, each with words or pictures of its own, to ``first.others``.

    Args:
        problem: as in ``explain_target``.
        options: as there.
        screened: as there.
        first: what ``explain_target`` returned; extended here.
        modes: explanations in all, ``first`` counted.
        checkpoint: folder of the first; each of the others has a folder in it.
        callback: as there.
    """
    for number in range(1, modes):
        before = [found.prompt_embeds.to(problem.pipeline.device) for found in (first, *first.others)]
        folder = None if checkpoint is None else Path(checkpoint) / f"mode-{number}"
        first.others.append(explain_target(problem.after(before), options, screened, folder, callback))


def explain_target(
    problem: Problem,
    options: Options,
    screened: Screened,
    checkpoint: str | Path | None = None,
    callback: Callback | None = None,
) -> Explanation:
    """Find a soft prompt whose pictures maximise a target, and score it on unseen draws.

    Args:
        problem: pipeline, sampler, classifier, target, prefix and seed.
        options: how to optimise and to score.
        screened: pictures of screened words of earlier targets; extended here.
        checkpoint: folder to resume from and to write checkpoints to; None for none.
        callback: receives a ``Progress`` after every step; None for nobody.

    Returns:
        The explanation.

    Raises:
        ValueError: a start or a checkpoint that does not fit the problem.
        NonFiniteError: NaN or infinity in a loss, a picture or a score.
        StorageError: a checkpoint that cannot be written.
    """
    began, identity, checkpoints, label = time.perf_counter(), identity_of(problem), None, _label(problem)
    truth = checked_truth((problem.classifier.truth or {}).get(label), "truth")  # before the search: it may be set late
    if checkpoint is not None:
        configuration = configuration_of(problem, options)
        checkpoints = Checkpoints(checkpoint, configuration, STATE_FILES, partial(answers_of, problem), NEWER)
    state = _optimised(problem, options, screened, checkpoints, callback)
    class_prompt = None if label is None else " ".join(part for part in (options.prefix, label) if part)
    used = options.images_per_step * (len(state.history) if options.fresh_latents else 1)
    counts = (options.n_score, min(options.n_score, used), options.n_images)
    found = evaluate(problem, state.best, class_prompt, *counts, counter(callback, "evaluate"))
    seconds = {"optimise": sum(item.seconds for item in state.history), "all": time.perf_counter() - began}
    return Explanation(
        target=problem.target.describe(),
        label=label,
        images=[picture.image for picture in found.pictures["held_out"]],
        prompt_embeds=state.best.detach().cpu(),
        activation=found.activation,
        words=[[Word(*pair) for pair in token] for token in problem.pipeline.nearest_words(state.best, _NEAREST)],
        history=list(state.history),
        settings=identity | settings_of(problem, options, state, class_prompt) | {"seconds": seconds} | found.settings,
        truth=truth,
        output=problem.classifier.output or SOFTMAX,
        reached=found.reached,
        pictures=found.pictures,
    )


def _optimised(
    problem: Problem,
    options: Options,
    screened: Screened,
    checkpoints: Checkpoints[State] | None,
    callback: Callback | None,
) -> State:
    """Return the state at the end of the optimisation, continued from a checkpoint if there is one."""
    state = checkpoints.load(torch.device(problem.pipeline.device)) if checkpoints else None
    if state is None:
        pictures = screened.setdefault(tuple(sorted(problem.sampler.identity().items(), key=str)), {})
        kept = Kept(pictures, checkpoints.scores() if checkpoints else {}, problem.cost)
        kept.recall()
        reports = counter(callback, "screen"), counter(callback, "search")
        starts = choose_starts(problem, options, _label(problem), kept, *reports)
        state = new_state(problem, options, starts)
        state.spent, state.words = problem.cost.record(), kept.words
        if checkpoints:
            checkpoints.save(state)
    else:
        problem.cost.add(**state.spent)

    def report_step(state: State) -> None:
        if callback is None:
            return
        done, last = len(state.history), state.history[-1]
        left = 0 if state.finished else options.iterations - state.step
        each = sum(item.seconds for item in state.history) / done
        callback(Progress("optimise", done, done + left, last.loss, last.logit, each * left))

    save = checkpoints.save if checkpoints else lambda state: None
    optimise(problem, options, state, save, report_step)
    return state


def _label(problem: Problem) -> str | None:
    label, classifier = problem.label, problem.classifier
    return None if label is None or classifier.labels is None else classifier.label_name(label)
