"""Further explanations of a class that answers to more than one thing: each is to say something else."""

from collections.abc import Mapping
from pathlib import Path

import torch

from diffexplain_fast.errors import keeping
from diffexplain_fast.evidence.cost import Spent
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.budget import MODES
from diffexplain_fast.methods.diffexplainer.explain import explain_target
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.running import Callback
from diffexplain_fast.methods.diffexplainer.screening import soft_from_text
from diffexplain_fast.methods.diffexplainer.settings import spent_by
from diffexplain_fast.methods.diffexplainer.shown import is_shown
from diffexplain_fast.methods.diffexplainer.vocabulary import fits
from diffexplain_fast.records import Json
from diffexplain_fast.results.explanation import Explanation


def explain_otherwise(
    problem: Problem,
    options: Options,
    first: Explanation,
    modes: int,
    checkpoint: str | Path | None = None,
    callback: Callback | None = None,
    asked: Mapping[str, Json] | None = None,
) -> None:
    """Add further explanations of the same target, each with words or pictures of its own, to ``first.others``.

    One that says what nearly all pictures of an earlier one show is no other explanation: it is looked for once more,
    away from what both say.

    Args:
        problem: as in ``explain_target``.
        options: as there.
        first: what ``explain_target`` returned; extended here.
        modes: explanations in all, ``first`` counted; none begins when those before have spent the budget.
        checkpoint: folder of the first; each of the others has a folder in it.
        callback: as there.
        asked: as there.

    Any error has ``first``, with the others that were done, in ``finished``.
    """
    with keeping("finished", lambda: [first]):
        for number in range(1, modes):
            there = (first, *first.others)
            before = [soft_of_name_or_prompt(problem, found) for found in there]
            other = problem.after(before, spent_by(there))
            if other.cost.leaves_out(MODES):
                first.settings["found"]["left_out"] += other.cost.left_out
                return
            folder = None if checkpoint is None else Path(checkpoint) / f"mode-{number}"
            found = explain_target(other, options, folder, callback, asked)
            said, spent = soft_of_name_or_prompt(problem, found), spent_by((*there, found))
            after = problem.after([said], spent)
            again = not after.cost.is_at_limit and any(is_shown(after, one.images) for one in there)
            _add_cost(found, after.cost.record())  # before anything else takes time
            if again:
                folder = None if folder is None else folder.with_name(f"{folder.name}-again")
                more: Spent = found.settings["found"]["cost"]
                earlier = spent_by((*there, found))
                found = explain_target(problem.after([*before, said], earlier), options, folder, callback, asked)
                _add_cost(found, more)
            first.others.append(found)


def _add_cost(found: Explanation, more: Spent) -> None:
    """Count to an explanation what was spent on it elsewhere."""
    cost: Spent = found.settings["found"]["cost"]
    total = Spent(
        forward=cost["forward"] + more["forward"],
        gradient=cost["gradient"] + more["gradient"],
        seconds=cost["seconds"] + more["seconds"],
    )
    found.settings["found"]["cost"] = total


def soft_of_name_or_prompt(problem: Problem, found: Explanation) -> torch.Tensor:
    """Return soft tokens [n, d] that say what was found and nothing else: its name where it has one that convinces."""
    text, tokens = " ".join(found.named["words"]) if found.named else "", len(found.prompt_embeds)
    if text and fits(problem.pipeline, text, tokens):
        return soft_from_text(problem.pipeline, text, tokens)
    return found.prompt_embeds.to(problem.pipeline.device)
