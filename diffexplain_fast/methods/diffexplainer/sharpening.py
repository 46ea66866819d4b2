"""A prompt that a search has found, described by its own pictures, so that more of them convince.

Of the pictures of a found prompt some fail, often because a generator does not draw each time what the prompt says too
weakly. Steps of the classifier's gradient do not mend it: a failing picture asks for what would help that picture, and
over few pictures that is noise. What the convincing ones share and the others lack is what has to be said louder, and a
description of them says it; see ``describing``.
"""

from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.budget import SEARCHING
from diffexplain_fast.methods.diffexplainer.climbing import SEARCH
from diffexplain_fast.methods.diffexplainer.describing import Turn, can_describe, moved
from diffexplain_fast.methods.diffexplainer.dictionary import score_of
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.likeness import new_ones
from diffexplain_fast.methods.diffexplainer.looking import looked_at
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.screening import Start, look_again

_TURNS, _DRAWN, _STEPS = 2, 16, 40
"""Times that a prompt is described again, pictures that it draws each time, and steps of a description."""
_LATENTS = 2**20
"""First start latent, which no population comes to."""
_LEAST, _ENOUGH = 0.4, 0.95
"""Mean probability below which too few pictures convince, and from which too few fail."""


def sharpened(problem: Problem, quick: Problem, options: Options, number: int, found: Start, kept: Kept) -> list[Start]:
    """Return prompts, each of which describes the pictures of those before it, until one convinces nearly always.

    Args:
        problem: what is explained.
        quick: the same with pictures of few steps.
        options: number of tokens, latents of a validation, and how a gradient is used.
        number: of the population that found the prompt.
        found: the prompt, looked at again on the validation latents.
        kept: results of an interrupted run; extended here.

    Returns:
        Prompts that were looked at again likewise and explain nothing that is explained already; none where hardly any
        picture convinces, where nearly all do, without a class, or where the denoiser has no error.

    Raises:
        NonFiniteError: a score or a soft token is NaN or infinite.
    """
    starts, last, seen = list[Start](), found, None
    if not (problem.plain_class and can_describe(problem) and score_of(found) >= _LEAST):
        return starts
    for turn in range(_TURNS):
        if score_of(last) >= _ENOUGH or problem.cost.leaves_out(SEARCHING):
            break
        first, key = _LATENTS + (number * _TURNS + turn) * _DRAWN, [SEARCH, number, "sharpened", turn]
        shown = looked_at(quick, key, last.soft.expand(_DRAWN, *last.soft.shape), [*range(first, first + _DRAWN)], kept)
        seen = shown if seen is None else seen.and_also(shown)
        soft = moved(quick, options, Turn(number, "sharpening", turn, _STEPS, _DRAWN), seen, last.soft, kept)
        others = new_ones(problem, [Start(f"{found.name} again {turn}", soft, origin="description")])
        if not others:
            break
        last = look_again(problem, others[0], options.n_validation, kept)
        starts.append(last)
    return starts
