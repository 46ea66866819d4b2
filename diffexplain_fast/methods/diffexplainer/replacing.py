"""Words of a text that only help the denoiser to draw the others: it also draws them with other words in their place.

A generator does not draw every word that stands by itself: "striped" needs a thing to be on. So a text of two words can
convince where neither word does, though the classifier looks for one of them only. But where a classifier does look for
both, no other word serves as well: in the place of "sea" stand words that leave it to chance, or draw a desert.
"""

import torch
from torch import Tensor

from diffexplain_fast.evidence.problem import FORWARD_BATCH, Problem
from diffexplain_fast.methods.diffexplainer.budget import NAMING
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.screening import Start, soft_from_text
from diffexplain_fast.methods.diffexplainer.vocabulary import fits

AS_WELL = 2 / 3
"""Share of a mean probability from which another text convinces as well. It is above one half, because what a text does
not ask for may be there by chance in half of its pictures, and below one, because a generator does not obey each word
each time, and because a prompt that was optimised for a class also avoids what other classes look for."""


def replaceable(
    problem: Problem, options: Options, words: tuple[str, ...], text: Start, without: dict[str, float], kept: Kept
) -> list[str]:
    """Return words in whose place nothing, or labels of other classes, serve as well; one word is always left.

    Labels stand for things that a generator can draw, and the class does not answer to them, because they are others.

    Args:
        problem: what is explained.
        options: ``n_tokens`` and ``n_validation`` matter here.
        words: of the text, at least two.
        text: looked at again on the validation latents.
        without: mean probability of the text without each of its words; the word that is missed least is asked first.
        kept: results of an interrupted run; extended here.

    Raises:
        NonFiniteError: a score is NaN or infinite.
    """
    assert text.score is not None
    found = list[str]()
    for word in sorted(without, key=lambda word: -without[word]):
        if len(found) == len(words) - 1 or problem.cost.leaves_out(NAMING):
            break
        if without[word] >= AS_WELL * text.score:
            found.append(word)
            continue
        texts = _texts(problem, options, words, word)
        if not texts:
            continue

        def score(texts: list[str] = texts) -> Tensor:
            return _scores(problem, options, texts)

        each = kept.scored(["in place of", word, text.name], options.n_validation, score)
        if sum(each) / len(each) >= AS_WELL * text.score:
            found.append(word)
    return found


def _texts(problem: Problem, options: Options, words: tuple[str, ...], word: str) -> list[str]:
    """Return texts with a label of another class in the place of a word, at most one for each picture."""
    labels = enumerate(problem.classifier.labels or ())
    others = [label for i, label in labels if i != problem.label and label not in words]
    spread = others[:: max(1, len(others) // options.n_validation)][: options.n_validation]
    texts = [" ".join(label if one == word else one for one in words) for label in spread]
    return [text for text in texts if fits(problem.pipeline, text, options.n_tokens)]


@torch.no_grad()
def _scores(problem: Problem, options: Options, texts: list[str]) -> Tensor:
    """Return the scores [n_validation] of pictures of texts by turns, on the validation latents."""
    softs = torch.stack([soft_from_text(problem.pipeline, text, options.n_tokens) for text in texts])
    parts = []
    for first in range(0, options.n_validation, FORWARD_BATCH):
        latents = [*range(first, min(first + FORWARD_BATCH, options.n_validation))]
        text = problem.encode_soft(softs[[i % len(softs) for i in latents]])
        parts.append(problem.merit(problem.scores(problem.images(text, "validation", latents))))
    return torch.cat(parts)
