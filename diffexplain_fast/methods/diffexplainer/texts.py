"""Texts of words that a prompt's pictures show, drawn to see whether they convince: single words, pairs, and threes."""

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import combinations

from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.album import Album
from diffexplain_fast.methods.diffexplainer.budget import NAMING
from diffexplain_fast.methods.diffexplainer.dictionary import ranked, score_of
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.likeness import new_ones
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.replacing import Words
from diffexplain_fast.methods.diffexplainer.screening import Start, screen, with_few_steps
from diffexplain_fast.methods.diffexplainer.vocabulary import fits

PROPOSED = 8
"""Proposed words that are drawn, alone, in pairs, and as a third word."""
_FINALISTS = 2
"""Texts that are scored on the validation latents after each screening."""
HOPE = 0.25
"""Mean probability of words below which no third word is tried, and a single word is not looked at again."""


def tried(
    problem: Problem, options: Options, words: list[str], others: list[str], least: float, kept: Kept, drawn: bool
) -> list[tuple[Words, Start]]:
    """Return the best texts of proposed words with their words: single ones, then pairs, then threes if need be.

    Args:
        problem: what is explained.
        options: ``n_tokens`` and ``n_validation`` matter here.
        words: that pictures show, the most telling first.
        others: drawn alone where no word of those convinces: pictures show much beside what convinces, and among many
            words some fit all of it better than the one word that does.
        least: score from which a text is a name.
        kept: results of an interrupted run; extended here.
        drawn: whether all words were drawn alone before.
    """

    def more(texts: list[tuple[Words, Start]], said: Iterable[Words], hope: float) -> list[tuple[Words, Start]]:
        return with_more(problem, options, texts, said, kept, hope)

    def best(texts: list[tuple[Words, Start]]) -> float:
        return score_of(texts[0][1]) if texts else -math.inf

    words, texts = words[:PROPOSED], list[tuple[Words, Start]]()
    for alone in () if drawn else (words, others):
        if best(texts) < least:
            texts = more(texts, [(word,) for word in alone], HOPE)
    if best(texts) < least:
        words = [*dict.fromkeys([*words, *(word for said, _ in texts[:_FINALISTS] for word in said)])]
        texts = more(texts, combinations(words, 2), 0.0)
    if HOPE <= best(texts) < least:
        first = texts[0][0]
        texts = more(texts, [(*first, word) for word in words if word not in first], 0.0)
    return texts


def with_more(
    problem: Problem, options: Options, texts: list[tuple[Words, Start]], more: Iterable[Words], kept: Kept, hope: float
) -> list[tuple[Words, Start]]:
    """Return texts, and the best of more words with a first score of at least ``hope``, all of them the best first."""
    words_of = {" ".join(said): said for said in more}
    found = [(words_of[start.name], start) for start in _drawn(problem, options, [*words_of], kept, hope)]
    return sorted([*texts, *found], key=lambda text: score_of(text[1]), reverse=True)


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
