"""A name for what a search found: words whose own pictures convince as often as those of the prompt without words.

Words are proposed by what the prompt's pictures show (``telling``), or by what resembles the prompt (``proposals``)
where no error is defined or hardly any picture convinces. Then they are drawn, alone and in pairs, and with a third
word where two are not enough. So a name is a finding about the classifier and not about the denoiser: nothing is named
where no words convince as the prompt does, and no word is in a name that convinces as well without it, or nearly as
well with others in its place (``replacing``).
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import combinations

from diffexplain_fast.editing.likelihood import has_error
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.album import Album
from diffexplain_fast.methods.diffexplainer.budget import NAMING
from diffexplain_fast.methods.diffexplainer.dictionary import ranked, score_of
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.likeness import new_ones
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.proposals import proposed_words
from diffexplain_fast.methods.diffexplainer.replacing import AS_WELL, Words, best_in_company, replaceable
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

_PROPOSED = 8
"""Proposed words that are drawn, alone, in pairs, and as a third word."""
_FINALISTS = 2
"""Texts that are scored on the validation latents after each screening."""
_LEAST = 0.5
"""Mean probability of the class below which words name nothing."""
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
        found: the prompt; looked at again on the validation latents, if it has no score of them.
        kept: results of an interrupted run; extended here.
        drawn: whether all words that may be proposed were drawn alone before.

    Returns:
        The name, or what came nearest to one, None if the budget ended before; and texts as starts, the best first.

    Raises:
        NonFiniteError: a score or an error of the denoiser is NaN or infinite.
    """
    if problem.cost.leaves_out(NAMING):
        return None, []
    rows = problem.cost.rows
    found = found if found.score is not None else look_again(problem, found, options.n_validation, kept)
    words = telling_words(problem, found.name, found.soft, kept) if has_error(problem.pipeline) else []
    words = words or proposed_words(problem, [found.soft])
    least = max(_LEAST, AS_WELL * score_of(found))
    texts = _tried(problem, options, words, least, kept, drawn)
    starts = [start for _, start in texts]
    is_name = bool(starts) and score_of(starts[0]) >= least
    if not is_name and problem.cost.is_at_limit:
        return None, starts  # what was left out might have been the name
    (said, best), without = texts[0] if texts else ((), None), dict[str, Start]()
    if best is not None and is_name:
        said, best = best_in_company(problem, options, texts, least, kept)
        said, best, without = _needed(problem, options, said, best, least, kept)
    others = replaceable(problem, options, said, best, without, kept) if best is not None and len(without) > 1 else ()
    named = Named(
        words=[word for word in said if word not in others] if is_name else [],
        probability=0.0 if best is None else score_of(best),
        prompt_probability=score_of(found),
        pictures=options.n_validation,
        without={word: score_of(start) for word, start in without.items()},
        tried=[*said],
        shown=words,
        rows=problem.cost.rows - rows,
    )
    rest = [start for start in starts if best is None or start.name != best.name]
    return named, [*([] if best is None else [best]), *rest]


def _tried(
    problem: Problem, options: Options, words: list[str], least: float, kept: Kept, drawn: bool
) -> list[tuple[Words, Start]]:
    """Return the best texts of proposed words with their words: single ones, then pairs, then threes if need be."""

    def with_more(texts: list[tuple[Words, Start]], more: Iterable[Words], hope: float) -> list[tuple[Words, Start]]:
        words_of = {" ".join(said): said for said in more}
        found = [(words_of[start.name], start) for start in _drawn(problem, options, [*words_of], kept, hope)]
        return sorted([*texts, *found], key=lambda text: score_of(text[1]), reverse=True)

    words = words[:_PROPOSED]
    texts = [] if drawn else with_more([], [(word,) for word in words], _HOPE)
    if not texts or score_of(texts[0][1]) < least:
        texts = with_more(texts, combinations(words, 2), 0.0)
    if texts and _HOPE <= score_of(texts[0][1]) < least:
        first = texts[0][0]
        texts = with_more(texts, [(*first, word) for word in words if word not in first], 0.0)
    return texts


def _drawn(problem: Problem, options: Options, texts: list[str], kept: Kept, hope: float) -> list[Start]:
    """Return the best of texts with a first score of at least ``hope``, scored on the validation latents."""
    texts = [text for text in texts if fits(problem.pipeline, text, options.n_tokens)]
    if not texts or problem.cost.leaves_out(NAMING):
        return []
    # The pictures are of no use to the next target, so they are not kept.
    alone, is_over = replace(kept, album=Album(room=0)), partial(problem.cost.leaves_out, NAMING)
    quick = with_few_steps(problem, options)
    starts = screen(quick, texts, options.n_tokens, alone, lambda done: None, is_over)
    starts = [replace(start, origin="proposals") for start in new_ones(problem, starts)]
    starts.sort(key=score_of, reverse=True)
    return ranked(problem, options.n_validation, [one for one in starts if score_of(one) >= hope][:_FINALISTS], kept)


def _needed(
    problem: Problem, options: Options, words: Words, best: Start, least: float, kept: Kept
) -> tuple[Words, Start, dict[str, Start]]:
    """Return a text without the words that it does not need, and texts without each word that it does."""
    without = dict[str, Start]()
    for i, word in enumerate(words if len(words) > 1 else ()):
        if problem.cost.leaves_out(NAMING):
            break
        fewer = (*words[:i], *words[i + 1 :])
        text = " ".join(fewer)
        shorter = Start(text, soft_from_text(problem.pipeline, text, options.n_tokens), origin=best.origin)
        shorter = look_again(problem, shorter, options.n_validation, kept)
        if score_of(shorter) >= max(least, AS_WELL * score_of(best)):
            return _needed(problem, options, fewer, shorter, least, kept)
        without[word] = shorter
    return words, best, without
