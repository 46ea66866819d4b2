"""What of an explanation is written down: options, how it was found, and what makes two runs the same run."""

from collections.abc import Sequence
from dataclasses import asdict

from diffexplain_fast.environment import device_record, versions
from diffexplain_fast.evidence.cost import Spent
from diffexplain_fast.evidence.identity import identity_of
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.state import State, has_moved
from diffexplain_fast.methods.diffexplainer.vocabulary import labels_left_out
from diffexplain_fast.records import JsonObject
from diffexplain_fast.results.explanation import Explanation

_SCORE_ONLY = ("n_images", "n_score", "checkpoint_every")
"""Options that do not change what is optimised, so that a checkpoint may be resumed with others."""
_NEW: JsonObject = {"budget": None, "search_steps": None, "search_batch": 8}
"""Options that checkpoints of earlier versions lack, with the values that they then had."""

_ALWAYS = object()


def settings_of(problem: Problem, options: Options, state: State, class_prompt: str | None) -> JsonObject:
    """Return what repeats an explanation and says how it came about.

    Args:
        problem: what was explained.
        options: how.
        state: at the end of the optimisation.
        class_prompt: the prompt of the class name, None without a class name that can be drawn.
    """
    best = state.ranking[state.best_attempt]
    return {
        "class_index": problem.label,
        "options": values_of(options),
        "class_name_prompt": class_prompt,
        "class_name_prompt_cut": class_prompt is not None and not problem.pipeline.fits(class_prompt),
        "starts": state.ranking,
        "start": best["name"],
        "found": {
            "by": found_by(state),
            "moved": has_moved(state),
            "steps_convinced": state.convinced,
            "attempt": state.best_attempt,
            "attempt_convinced": sum(state.convinced_each[state.best_attempt : state.best_attempt + 1]),
            "words_drawn": state.words,
            "cost": dict(state.spent),
            "left_out": state.left_out,
            "labels_left_out": labels_left_out(problem, options),
        },
        "validations": state.validations,
        "sampler": problem.sampler.record(),
        "cuda_graphs": problem.record(),
        "noise": "standard normal, generator seeded by sha256 of 'seed/stage/number'",
        "pipeline": problem.pipeline.name,
        "classifier": problem.classifier.name,
        "versions": versions(),
        "device": device_record(),
    }


def values_of(options: Options) -> JsonObject:
    """Return options as JSON values."""
    return asdict(options) | {"candidates": None if options.candidates is None else list(options.candidates)}


def configuration_of(problem: Problem, options: Options) -> JsonObject:
    """Return the identity, and the options that decide what is optimised."""
    values = values_of(options)
    decisive = {key: value for key, value in values.items() if key not in _SCORE_ONLY}
    before: JsonObject = {"explanations_before": len(problem.others)} if problem.others else {}
    return (
        identity_of(problem)
        | before
        | {key: value for key, value in decisive.items() if value != _NEW.get(key, _ALWAYS)}
    )


def found_by(state: State) -> str:
    """Return what found the best state: "dictionary", "proposals", "description", "given", "gradient" or "random".

    "dictionary and gradient" says that a screened word was the start, and steps of the gradient bettered it. A random
    start that they bettered was found by the gradient.
    """
    origin, moved = state.ranking[state.best_attempt].get("origin", "gradient"), has_moved(state)
    if origin == "random" and moved:
        return "gradient"
    return f"{origin} and gradient" if moved and origin not in ("gradient", "random") else origin


def spent_by(explanations: Sequence[Explanation]) -> tuple[int, float]:
    """Return the rows of the denoiser and the seconds that the searches of explanations took."""
    costs: list[Spent] = [explanation.settings["found"]["cost"] for explanation in explanations]
    return sum(cost["forward"] + cost["gradient"] for cost in costs), sum(cost["seconds"] for cost in costs)
