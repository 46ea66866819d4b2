"""Other words in the company and in the place of words of a text, which tell the words that a class looks for.

A generator does not draw every word that stands by itself: "striped" needs a thing to be on. So a text of two words can
convince where neither word does, though the classifier looks for one of them only. But where a classifier does look for
both, no other word serves as well: in the place of "sea" stand words that leave it to chance, or draw a desert. And of
what a wide word means it may by itself always draw the same, "cold" something blue; beside a thing it draws the rest.
"""

import torch
from torch import Tensor

from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.budget import NAMING
from diffexplain_fast.methods.diffexplainer.dictionary import score_of
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.screening import Start, beats, soft_from_text
from diffexplain_fast.methods.diffexplainer.vocabulary import fits
from diffexplain_fast.results.named import AS_WELL

Words = tuple[str, ...]
"""Words of one text; an entry of a vocabulary may hold a space."""
_PLACE = ""
"""Stands for a label."""


def best_in_company(
    problem: Problem, options: Options, texts: list[tuple[Words, Start]], least: float, kept: Kept
) -> tuple[Words, Start]:
    """Return the best of texts; among those that it beats by chance only, the best alone and beside labels together.

    Args:
        problem: what is explained.
        options: ``n_tokens`` and ``n_validation`` matter here.
        texts: words with their text, looked at again on the validation latents; the best first.
        least: score below which a text is no name; the best has it.
        kept: results of an interrupted run; extended here.

    Raises:
        NonFiniteError: a score is NaN or infinite.
    """
    words, best = texts[0]
    equal = [text for text in texts if len(text[0]) == len(words) and score_of(text[1]) >= least]
    equal, both = [text for text in equal if not beats(best, text[1])], list[float]()
    for said, start in equal if len(equal) > 1 else ():
        if problem.cost.leaves_out(NAMING):
            return texts[0]
        beside = _with_labels(problem, options, (*said, _PLACE), _PLACE, "in company", kept)
        if beside is None:
            return texts[0]
        both.append(score_of(start) + score_of(beside))
    return equal[both.index(max(both))] if both else texts[0]


def replaceable(
    problem: Problem, options: Options, words: Words, text: Start, without: dict[str, Start], kept: Kept
) -> tuple[list[str], list[str]]:
    """Return words in whose place nothing, or labels of other classes, serve as well, and the words that were asked.

    One word is always left, and words are missing among those that were asked where the budget ended before.

    Labels stand for things that a generator can draw, and the class does not answer to them, because they are others.
    A word is replaceable only if what serves in its place beats, by more than chance, the text without each word that
    is left: where chance could decide which of two words is needed, both are left.

    Args:
        problem: what is explained.
        options: ``n_tokens`` and ``n_validation`` matter here.
        words: of the text, at least two.
        text: looked at again on the validation latents.
        without: the text without each of its words, looked at likewise; the word that is missed least is asked first.
        kept: results of an interrupted run; extended here.

    Raises:
        NonFiniteError: a score is NaN or infinite.
    """
    found, asked = list[str](), list[str]()
    for word in sorted(without, key=lambda word: -score_of(without[word])):
        if len(found) == len(words) - 1:
            return found, [*words]
        if problem.cost.leaves_out(NAMING):
            break
        asked.append(word)
        left = [without[other] for other in without if other not in (word, *found)]

        def serves(other: Start, left: list[Start] = left) -> bool:
            as_well = score_of(other) >= AS_WELL * score_of(text)
            return as_well and all(beats(other, start) for start in left)

        if not serves(without[word]):
            other = _with_labels(problem, options, words, word, "in place of", kept)
            if other is None or not serves(other):
                continue
        found.append(word)
    return found, asked


def _with_labels(problem: Problem, options: Options, words: Words, word: str, what: str, kept: Kept) -> Start | None:
    """Return texts with labels in the place of a word, scored by turns as one; None where they do not fit."""
    texts = _texts(problem, options, words, word)
    if not texts:
        return None
    name = " ".join(words)
    scores = kept.scored([what, word, name], options.n_validation, lambda: _scores(problem, options, texts))
    each = torch.tensor(scores, dtype=torch.float64, device="cpu")
    return Start(name, soft_from_text(problem.pipeline, texts[0], options.n_tokens), float(each.mean()), each)


def _texts(problem: Problem, options: Options, words: Words, word: str) -> list[str]:
    """Return texts with a label of another class in the place of a word, at most one for each picture."""
    others = _labels_beside(problem, words)
    spread = others[:: max(1, len(others) // options.n_validation)][: options.n_validation]
    texts = [" ".join(label if one == word else one for one in words) for label in spread]
    return [text for text in texts if fits(problem.pipeline, text, options.n_tokens)]


def _labels_beside(problem: Problem, words: Words) -> list[str]:
    """Return labels that say neither a word of these nor the name of the class, in any spelling of the same tokens."""
    ids, labels = problem.pipeline.token_ids, [*(problem.classifier.labels or ())]
    own = [ids(label) for label in labels[problem.label : problem.label + 1]] if problem.label is not None else []
    said = [ids(word) for word in words if word != _PLACE]
    tokens = [(label, ids(label)) for i, label in enumerate(labels) if i != problem.label]
    return [label for label, all_ in tokens if all_ not in own and not any(_is_within(part, all_) for part in said)]


def _is_within(part: list[int], whole: list[int]) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


@torch.no_grad()
def _scores(problem: Problem, options: Options, texts: list[str]) -> Tensor:
    """Return the scores [n_validation] of pictures of texts by turns, on the validation latents."""
    softs = torch.stack([soft_from_text(problem.pipeline, text, options.n_tokens) for text in texts])
    parts = []
    for first in range(0, options.n_validation, problem.forward_batch):
        latents = [*range(first, min(first + problem.forward_batch, options.n_validation))]
        text = problem.encode_soft(softs[[i % len(softs) for i in latents]])
        parts.append(problem.merit(problem.scores(problem.images(text, "validation", latents))))
    return torch.cat(parts)
