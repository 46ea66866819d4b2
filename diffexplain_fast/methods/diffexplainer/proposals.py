"""Words for what a search found: those that the text encoder answers in the same way.

A word of a large vocabulary is found by two comparisons that draw no picture: of token embeddings, which are cheap,
and, for the words that are near there, of the text encoder's output. Each ranks words, and the best of both are
proposed by turns. The gradient with respect to the embeddings (as HotFlip uses it) is of no use here: over a change as
large as a whole word the pictures are not linear in it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.budget import NAMING
from diffexplain_fast.methods.diffexplainer.dictionary import score_of, word_starts
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.likeness import likeness
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.screening import Start, soft_from_text
from diffexplain_fast.methods.diffexplainer.vocabulary import fits, vocabulary_is_small

_PROPOSED = 16
_PAIRED = 6
"""Proposed words that are drawn in pairs."""
_PRESELECTED = 64
"""Words for each soft token whose text is encoded."""


@torch.no_grad()
def proposed_words(problem: Problem, softs: Sequence[Tensor]) -> list[str]:
    """Return different words, the most similar first.

    Args:
        problem: its pipeline has words and a text encoder.
        softs: soft tokens [n, d] of each prompt that was found.
    """
    pipeline, n = problem.pipeline, len(softs[0])
    names, table = pipeline.words(), pipeline.word_table().detach().float()
    near = normalize(torch.cat(list(softs)).float(), dim=-1) @ normalize(table, dim=-1).T
    chosen = near.topk(min(_PRESELECTED, len(names)), dim=1).indices.flatten().tolist()
    order = torch.tensor(sorted(set(chosen)), device=table.device)
    prompts = soft_from_text(pipeline, "a", n).expand(len(order), -1, -1).clone()
    prompts[:, -1] = table[order]
    in_states = likeness(problem, prompts, softs).amax(1)
    in_tokens = near.amax(0)[order]
    ranks = [order[alike.argsort(descending=True, stable=True)].tolist() for alike in (in_tokens, in_states)]
    return list(dict.fromkeys(names[i] for pair in zip(*ranks, strict=True) for i in pair))[:_PROPOSED]


def named_starts(
    problem: Problem,
    options: Options,
    words: list[Start],
    found: list[Start],
    kept: Kept,
    report: Callable[[int, int], None],
) -> list[Start]:
    """Draw the words that resemble what was found, each alone and with another one.

    The words of a small vocabulary were all drawn alone before; pairs of them are drawn where what was found is better.

    Args:
        problem: what is explained.
        options: ``candidates``, ``n_tokens``, and ``n_validation`` matter here; words that were given are
            all there is, and where nothing more may be spent no word is drawn.
        words: starts that were drawn before, with their scores.
        found: what a search found, the best first.
        kept: results of an interrupted run; extended here.
        report: receives texts done and texts in all.
    """
    small, best = vocabulary_is_small(problem.pipeline), max(map(score_of, words), default=-math.inf)
    if not problem.plain_class or options.candidates or (small and score_of(found[0]) <= best):
        return []
    if problem.cost.leaves_out(NAMING):
        return []
    alone = proposed_words(problem, [start.soft for start in found])
    pairs = [f"{first} {second}" for first, second in combinations(alone[:_PAIRED], 2)]
    texts = [*([] if small else alone), *(text for text in pairs if fits(problem.pipeline, text, options.n_tokens))]
    screening = replace(options, start="screen")
    finalists, _ = word_starts(problem, screening, texts, None, kept, report, "proposals", briefly=True)
    return finalists
