"""A name for what a search found: words whose own pictures convince as often as those of the prompt without words.

Words are proposed by what the prompt's pictures show (``telling``), or by what resembles the prompt (``proposals``)
where no error is defined or hardly any picture convinces. Then they are drawn, alone and in pairs, and with a third
word where two are not enough. So a name is a finding about the classifier and not about the denoiser: nothing is named
where no words convince as the prompt does, and no word is in a name that convinces as well without it.
"""

from dataclasses import replace
from functools import partial
from itertools import combinations

from diffexplain_fast.editing.likelihood import has_error
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.budget import NAMING
from diffexplain_fast.methods.diffexplainer.dictionary import ranked, score_of
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.likeness import is_new
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.proposals import proposed_words
from diffexplain_fast.methods.diffexplainer.screening import (
    Start,
    look_again,
    screen,
    soft_from_text,
    with_few_steps,
)
from diffexplain_fast.methods.diffexplainer.telling import telling_words
from diffexplain_fast.methods.diffexplainer.vocabulary import fits
from diffexplain_fast.results.named import Named

_ALONE, _PAIRED = 8, 6
"""Proposed words that are drawn alone, and in pairs."""
_FINALISTS = 2
"""Texts that are scored on the validation latents after each screening."""
_WITHOUT = 6
"""Validation latents on which a text is compared with the same text without one of its words."""
_LEAST = 0.5
"""Mean probability of the class below which words name nothing."""
_AS_WELL = 0.85
"""Share of a prompt's mean probability from which words convince as it does, and a text without one of its words."""
_HOPE = 0.25
"""Mean probability of words below which no third word is tried, and a single word is not looked at again."""


def can_name(problem: Problem, options: Options) -> bool:
    """Whether a search is followed by a naming: the target is a class, and the words are not the user's choice."""
    return problem.plain_class and not options.candidates


def name_found(
    problem: Problem, options: Options, found: Start, kept: Kept, drawn: bool = False
) -> tuple[Named | None, list[Start]]:
    """Name a prompt without words.

    Args:
        problem: what is explained; see ``can_name``.
        options: ``n_tokens`` and ``n_validation`` matter here.
        found: the prompt, looked at again on the validation latents.
        kept: results of an interrupted run; extended here.
        drawn: whether all words that may be proposed were drawn alone before.

    Returns:
        The name, or what came nearest to one, None if the budget ended before; and texts as starts, the best first.

    Raises:
        NonFiniteError: a score or an error of the denoiser is NaN or infinite.
    """
    if problem.cost.leaves_out(NAMING):
        return None, []
    rows, n = problem.cost.rows, options.n_tokens
    words = telling_words(problem, found.name, found.soft, kept) if has_error(problem.pipeline) else []
    words = words or proposed_words(problem, [found.soft])
    least = max(_LEAST, _AS_WELL * score_of(found))
    starts = [] if drawn else _drawn(problem, options, words[:_ALONE], kept, _HOPE)
    if not starts or score_of(starts[0]) < least:
        pairs = [f"{first} {second}" for first, second in combinations(words[:_PAIRED], 2)]
        starts = sorted([*starts, *_drawn(problem, options, pairs, kept)], key=score_of, reverse=True)
    if starts and _HOPE <= score_of(starts[0]) < least:
        first = starts[0].name.split()
        more = [" ".join([*first, word]) for word in words[:_PAIRED] if word not in first]
        starts = sorted([*starts, *_drawn(problem, options, more, kept)], key=score_of, reverse=True)
    best, without = starts[0] if starts else None, dict[str, float]()
    is_name = best is not None and score_of(best) >= least
    if not is_name and problem.cost.is_at_limit:
        return None, starts  # what was left out might have been the name
    if best is not None and is_name:
        best, without = _needed(problem, n, best, least, kept)
    tried = [] if best is None else best.name.split()
    named = Named(
        words=tried if is_name else [],
        probability=0.0 if best is None else score_of(best),
        prompt_probability=score_of(found),
        pictures=options.n_validation,
        without=without,
        tried=tried,
        shown=words,
        rows=problem.cost.rows - rows,
    )
    others = [start for start in starts if best is None or start.name != best.name]
    return named, [*([] if best is None else [best]), *others]


def _drawn(problem: Problem, options: Options, texts: list[str], kept: Kept, hope: float = 0.0) -> list[Start]:
    """Return the best of texts with a first score of at least ``hope``, scored on the validation latents."""
    texts = [text for text in texts if fits(problem.pipeline, text, options.n_tokens)]
    if not texts or problem.cost.leaves_out(NAMING):
        return []
    # The pictures are of no use to the next target, so they are not kept.
    alone, is_over = replace(kept, images={}), partial(problem.cost.leaves_out, NAMING)
    quick = with_few_steps(problem, options)
    starts = screen(quick, texts, options.n_tokens, alone, lambda done: None, is_over)
    starts = [replace(start, origin="proposals") for start in starts if is_new(problem, start.soft)]
    starts.sort(key=score_of, reverse=True)
    return ranked(problem, options.n_validation, [one for one in starts if score_of(one) >= hope][:_FINALISTS], kept)


def _needed(problem: Problem, n_tokens: int, best: Start, least: float, kept: Kept) -> tuple[Start, dict[str, float]]:
    """Return a text without the words that it does not need, and the scores of it without each word that it does."""
    assert best.each is not None
    words, without, count = best.name.split(), dict[str, float](), min(_WITHOUT, len(best.each))
    for word in words if len(words) > 1 else []:
        if problem.cost.leaves_out(NAMING):
            break
        text = " ".join(other for other in words if other != word)
        shorter = Start(text, soft_from_text(problem.pipeline, text, n_tokens), origin=best.origin)
        shorter = look_again(problem, shorter, count, kept)
        if score_of(shorter) >= max(least, _AS_WELL * float(best.each[:count].mean())):
            return _needed(problem, n_tokens, look_again(problem, shorter, len(best.each), kept), least, kept)
        without[word] = score_of(shorter)
    return best, without
