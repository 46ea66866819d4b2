"""One explanation from start to end: choose the starts, optimise, and score on unseen draws."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from diffexplain_fast.errors import keeping, wrong_value
from diffexplain_fast.evidence.evaluation import evaluate
from diffexplain_fast.evidence.identity import NEWER, answers_of, identity_of
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.running import Callback, label_of, name_result, optimised
from diffexplain_fast.methods.diffexplainer.settings import configuration_of, settings_of
from diffexplain_fast.methods.diffexplainer.state import tuned_on
from diffexplain_fast.methods.diffexplainer.state_files import STATE_FILES
from diffexplain_fast.methods.diffexplainer.vocabulary import check_given
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.records import Json
from diffexplain_fast.results.explanation import Explanation, Word
from diffexplain_fast.results.truth import checked_truth
from diffexplain_fast.runs.checkpoint import Checkpoints
from diffexplain_fast.runs.progress import counter
from diffexplain_fast.runs.spending import read_limit
from diffexplain_fast.targets.outputs import SOFTMAX

_NEAREST = 5
"""Vocabulary words reported for each soft token."""


def check_prompt(pipeline: Pipeline, options: Options) -> None:
    """Refuse a prompt that is too long, and words of the caller that cannot be said, before any work.

    Raises:
        ValueError: prefix and soft tokens do not fit into the context; see ``check_given`` for candidates and start.
    """
    words = len(pipeline.token_embeddings(options.prefix)) if options.prefix else 0
    if words + options.n_tokens > pipeline.max_tokens:
        wanted = f"at most {pipeline.max_tokens} tokens, prefix and n_tokens together"
        raise wrong_value("prompt", wanted, f"{words} + {options.n_tokens}")
    check_given(pipeline, options)


def explain_target(
    problem: Problem,
    options: Options,
    checkpoint: str | Path | None = None,
    callback: Callback | None = None,
    asked: Mapping[str, Json] | None = None,
) -> Explanation:
    """Find a soft prompt whose pictures maximise a target, and score it on unseen draws.

    Args:
        problem: pipeline, sampler, classifier, target, prefix and seed.
        options: how to optimise and to score.
        checkpoint: folder to resume from and to write checkpoints to; None for none.
        callback: receives a ``Progress`` after every step; None for nobody.
        asked: options as the caller gave them where ``options`` have what came of them, for settings and checkpoints.

    Returns:
        The explanation.

    Raises:
        ValueError: a start, a candidate or a checkpoint that does not fit the problem.
        NonFiniteError: NaN or infinity in a loss, a picture or a score.
        StorageError: a checkpoint that cannot be written.

    Any error after the first validation, also of the classifier's own code, has the best soft tokens [n, d] so far in
    ``last_good``.
    """
    began, identity, checkpoints, label = time.perf_counter(), identity_of(problem), None, label_of(problem)
    truth = checked_truth((problem.classifier.truth or {}).get(label), "truth")  # before the search: it may be set late
    problem.cost.limit = read_limit(options.budget)
    if checkpoint is not None:
        configuration = configuration_of(problem, options)
        checkpoints = Checkpoints(checkpoint, configuration, STATE_FILES, partial(answers_of, problem), NEWER, asked)
    state = optimised(problem, options, checkpoints, callback)
    with keeping("last_good", lambda: state.best):
        name_result(problem, options, state, checkpoints, callback)
    can_be_drawn = label is not None and problem.pipeline.knows(label)
    class_prompt = " ".join(part for part in (options.prefix, label) if part) if can_be_drawn else None
    counts = (options.n_score, tuned_on(options, state), options.n_images)
    with keeping("last_good", lambda: state.best):
        found = evaluate(problem, state.best, class_prompt, *counts, counter(callback, "evaluate"))
    given = {"asked": {**asked}} if asked else {}
    seconds = {"optimise": sum(item.seconds for item in state.history), "all": time.perf_counter() - began}
    return Explanation(
        target=problem.target.describe(),
        label=label,
        images=[picture.image for picture in found.pictures["held_out"]],
        prompt_embeds=state.best.detach().cpu(),
        activation=found.activation,
        words=[[Word(*pair) for pair in token] for token in problem.pipeline.nearest_words(state.best, _NEAREST)],
        history=list(state.history),
        settings=identity
        | settings_of(problem, options, state, class_prompt)
        | given
        | {"seconds": seconds}
        | found.settings,
        truth=truth,
        output=problem.classifier.output or SOFTMAX,
        reached=found.reached,
        named=state.ranking[state.best_attempt].get("named"),
        pictures=found.pictures,
    )
