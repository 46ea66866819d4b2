"""Where an optimisation starts: from words that already work, since the bare gradient from a neutral start is luck.

DEXTER reports the same weakness of the gradient (arXiv 2510.14741, tables 4 and 5) and adds pseudo-labels; here single
words are screened by forward passes alone.
"""

import math
from collections.abc import Callable

import torch

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.seeds import normal, seeded_generator
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.screening import Kept, Start, beats, look_again, screen, soft_from_text
from diffexplain_fast.models.pipeline import Pipeline

SMALL_VOCABULARY = 256
"""Up to this many words, screening them all costs less than an optimisation."""
_SHORTEST_WORD = 3
"""Letters; shorter entries of a vocabulary are single letters, articles and prepositions."""
_FINALISTS = 4
"""Screened words that are scored again on the validation latents: two images say little about a word."""
_SECOND_WORDS = 12
"""Screened second words that are scored again, on ``_SECOND_LOOK`` images each, before the finalists are."""
_SECOND_LOOK = 6
_GOOD_ENOUGH = 0.9
"""Mean probability of the class above which one word says it all."""
_SPREAD = 0.1
"""Noise of a random start in standard deviations of the vocabulary."""


def choose_starts(
    problem: Problem,
    options: Options,
    class_name: str | None,
    kept: Kept,
    report: Callable[[int, int], None],
) -> list[Start]:
    """Return the starts to try, the most promising first.

    Args:
        problem: what is explained; its target scores the screening.
        options: ``start``, ``candidates``, ``n_tokens`` and ``restarts`` matter here.
        class_name: name of the target class, None if the target has no class or the class no name.
        kept: images of earlier targets of the same pipeline, and scores of an interrupted run; extended here.
        report: receives words done and words in all.

    Raises:
        ValueError: the start does not exist for this target or does not fit into the soft tokens.
    """
    pipeline, n = problem.pipeline, options.n_tokens
    if options.start == "class_name" and class_name is None:
        raise wrong_value("start", "a target that is a class with a name", "class_name")
    if options.start == "random":
        return [_random_start(problem, n, i) for i in range(1 + options.restarts)]
    if options.start not in ("auto", "screen"):
        text = class_name if options.start == "class_name" else options.start
        assert text is not None
        return [Start(text, soft_from_text(pipeline, text, n))]
    words = _candidates(problem, options)
    blocks = [words] if words else []
    if options.start == "auto" and class_name and class_name not in words and _fits(pipeline, class_name, n):
        blocks.append([class_name])
    if options.start == "screen" and not words:
        raise wrong_value("candidates", f"words of at most n_tokens = {n} tokens to screen", options.candidates)
    starts: list[Start] = []
    total = sum(len(block) for block in blocks)
    for block in blocks:
        starts += screen(problem, block, n, kept, _shifted(report, len(starts), total))
    starts.sort(key=_score, reverse=True)
    finalists = [*starts[:_FINALISTS], *(start for start in starts[_FINALISTS:] if start.name == class_name)]
    rest = [start for start in starts if start not in finalists]
    finalists = _plainest_first(_ranked(problem, options.n_validation, finalists, kept), class_name)
    if problem.plain_class and words and _score(finalists[0]) < _GOOD_ENOUGH:
        finalists = _with_a_second_word(problem, options, finalists, words, kept, report)
    return [*finalists, *rest, _random_start(problem, n, 0)]


def _ranked(problem: Problem, count: int, starts: list[Start], kept: Kept) -> list[Start]:
    """Score starts on ``count`` validation latents, the best first."""
    return sorted((look_again(problem, start, count, kept) for start in starts), key=_score, reverse=True)


def _plainest_first(starts: list[Start], name: str | None) -> list[Start]:
    """Put the start of that name first, unless the first beats it by more than chance."""
    plain = next((start for start in starts if start.name == name), None)
    if plain is None or beats(starts[0], plain):
        return starts
    return [plain, *(start for start in starts if start is not plain)]


def _with_a_second_word(
    problem: Problem,
    options: Options,
    finalists: list[Start],
    words: list[str],
    kept: Kept,
    report: Callable[[int, int], None],
) -> list[Start]:
    """Screen the best start with every other word after it: what one word leaves to chance, a second can settle."""
    first = finalists[0].name
    texts = [f"{first} {word}" for word in words if word not in first.split()]
    texts = [text for text in texts if _fits(problem.pipeline, text, options.n_tokens)]
    if not texts:
        return finalists
    pairs = screen(problem, texts, options.n_tokens, Kept(scores=kept.scores), _shifted(report, 0, len(texts)))
    best = _ranked(problem, _SECOND_LOOK, sorted(pairs, key=_score, reverse=True)[:_SECOND_WORDS], kept)[:_FINALISTS]
    both = sorted([*_ranked(problem, options.n_validation, best, kept), *finalists], key=_score, reverse=True)
    return _plainest_first(both, first)


def _score(start: Start) -> float:
    return -math.inf if start.score is None else start.score


def _shifted(report: Callable[[int, int], None], before: int, total: int) -> Callable[[int], None]:
    return lambda count: report(before + count, total)


def _fits(pipeline: Pipeline, text: str, n_tokens: int) -> bool:
    return 1 <= len(pipeline.token_embeddings(text)) <= n_tokens


def _candidates(problem: Problem, options: Options) -> list[str]:
    """Words to screen: those given, else a small vocabulary's whole words, else the labels (for "auto", if few)."""
    pipeline, words = problem.pipeline, list(options.candidates or ())
    if not words:
        vocabulary = pipeline.words()
        if len(vocabulary) <= SMALL_VOCABULARY:
            whole = dict.fromkeys(word for word in vocabulary if len(word) >= _SHORTEST_WORD and word.isalpha())
            words = [word for word in whole if len(pipeline.token_embeddings(word)) == 1]
        else:
            labels = list(dict.fromkeys(problem.classifier.labels or ()))
            words = labels if options.start == "screen" or len(labels) <= SMALL_VOCABULARY else []
    return [word for word in words if _fits(pipeline, word, options.n_tokens)]


def _random_start(problem: Problem, n_tokens: int, index: int) -> Start:
    """Return the mean of the vocabulary with a little noise."""
    table = problem.pipeline.word_table().detach().float()
    noise = normal(seeded_generator(problem.seed, "random start", index), n_tokens, table.shape[1])
    spread = table.std(0) if len(table) > 1 else torch.zeros_like(table[0])
    return Start(f"random {index}", table.mean(0) + _SPREAD * spread * noise.to(table.device))
