"""Words for what a search found: those that the text encoder answers in the same way.

A word of a large vocabulary is found by two comparisons that draw no picture: of token embeddings, which are cheap,
and, for the words that are near there, of the text encoder's output. Each ranks words, and the best of both are
proposed by turns. The gradient with respect to the embeddings (as HotFlip uses it) is of no use here: over a change as
large as a whole word the pictures are not linear in it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.likeness import likeness
from diffexplain_fast.methods.diffexplainer.screening import soft_from_text

_PROPOSED = 16
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
