"""Where an optimisation starts: words that already work, or what a search with gradients found where no word does.

DEXTER reports that the bare gradient from one neutral start is weak (arXiv 2510.14741, tables 4 and 5) and adds
pseudo-labels. Here words are screened by forward passes where there are few of them, and populations of prompts are
searched where the words are too many, or not enough; see ``population``.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.seeds import normal, seeded_generator
from diffexplain_fast.methods.diffexplainer.budget import SEARCHING, SECOND_LOOKS
from diffexplain_fast.methods.diffexplainer.dictionary import (
    ranked,
    score_of,
    word_starts,
)
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.likeness import new_ones
from diffexplain_fast.methods.diffexplainer.naming import name_found
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.population import STEPS, search_population
from diffexplain_fast.methods.diffexplainer.screening import Start, beats, look_again, soft_from_text, with_few_steps
from diffexplain_fast.methods.diffexplainer.sharpening import sharpened
from diffexplain_fast.methods.diffexplainer.vocabulary import candidates, check_given, vocabulary_is_small

_SPREAD = 0.1
"""Noise of a random start in standard deviations of the vocabulary."""
_MEMBERS = 4
"""Words that join a population."""
_FRESH, _LITTLE = "choice", 0.1
"""Stage of the latents on which words are compared with a prompt without words, and the mean probability that they may
lack to it."""
Report = Callable[[int, int], None]
"""Receives what is done and all there is."""


def choose_starts(
    problem: Problem,
    options: Options,
    class_name: str | None,
    kept: Kept,
    report: Report,
    report_search: Report = lambda done, total: None,
) -> list[Start]:
    """Return the starts to try, the most promising first.

    Args:
        problem: what is explained; its target scores the screening.
        options: ``start``, ``candidates``, ``n_tokens`` and ``restarts`` matter here.
        class_name: name of the target class, None if the target has no class or the class no name.
        kept: images of earlier targets of the same pipeline, and scores of an interrupted run; extended here.
        report: receives words done and words in all.
        report_search: receives steps of the search that are done, and steps in all.

    Raises:
        ValueError: the start does not exist for this target, or it or a candidate does not fit into the soft tokens.
    """
    pipeline, n = problem.pipeline, options.n_tokens
    check_given(pipeline, options)
    if options.start == "class_name" and class_name is None:
        raise wrong_value("start", "a target that is a class with a name", "class_name")
    if options.start == "random":
        return [_random_start(problem, n, i) for i in range(1 + options.restarts)]
    if options.start == "gradient":
        return _search(problem, options, [], 1 + options.restarts, kept, report_search)
    if options.start not in ("auto", "screen"):
        text = class_name if options.start == "class_name" else options.start
        assert text is not None
        return [Start(text, soft_from_text(pipeline, text, n), origin="given")]
    words = candidates(problem, options)
    if options.start == "screen" and not words:
        raise wrong_value("candidates", f"words of at most n_tokens = {n} tokens to screen", options.candidates)
    # Labels of a large vocabulary are only a hope: the cue is more likely among the words that are not drawn.
    hope = options.start == "auto" and options.restarts > 0 and not vocabulary_is_small(pipeline)
    briefly = hope and not options.candidates
    finalists, rest = word_starts(problem, options, words, class_name, kept, report, briefly=briefly)
    tries = options.restarts if finalists else 1 + options.restarts
    if options.start == "screen" or tries == 0 or _is_enough(problem, options, finalists):
        return [*finalists, *rest, _random_start(problem, n, 0)]
    found = _search(problem, options, finalists[:_MEMBERS], tries, kept, report_search)
    named = list[Start]()
    drawn = vocabulary_is_small(pipeline) and not options.candidates
    best_word = max(map(score_of, finalists), default=-math.inf)
    if problem.plain_class and not (drawn and score_of(found[0]) <= best_word):
        name, named = name_found(problem, options, found[0], kept, drawn)
        found = [replace(found[0], named=name), *found[1:]]
        named = [replace(start, named=name if name and name["words"] else None) for start in named[:1]]
    return [*_words_first(problem, options, [*finalists, *named], found, kept), *rest]


def _is_enough(problem: Problem, options: Options, finalists: list[Start]) -> bool:
    """Whether words are good enough as starts; a target without a class has no rate that could say that they fail."""
    if not finalists:
        return False
    enough = not problem.plain_class or score_of(finalists[0]) >= options.restart_below
    return enough or problem.cost.leaves_out(SEARCHING)


def _search(
    problem: Problem, options: Options, members: list[Start], tries: int, kept: Kept, report: Report
) -> list[Start]:
    """Search populations until the best prompt is good enough; return what they left, the best first."""
    found, quick = list[Start](), with_few_steps(problem, options)
    for number in range(tries):

        def shifted(done: int, number: int = number) -> None:
            report(number * STEPS + done, tries * STEPS)

        left = search_population(quick, options, number, [] if number else members, kept, shifted)
        left = ranked(problem, options.n_validation, new_ones(problem, left) or left[:1], kept)
        again = sharpened(problem, quick, options, number, left[0], kept)
        found = sorted([*found, *left, *again], key=score_of, reverse=True)
        enough = not problem.plain_class or score_of(found[0]) >= options.restart_below
        if enough or (number + 1 < tries and problem.cost.leaves_out(SEARCHING)):
            break
    return found


def _words_first(problem: Problem, options: Options, words: list[Start], found: list[Start], kept: Kept) -> list[Start]:
    """Return both, the best first; words go before prompts without words that beat them by little, and by chance.

    The best of many texts was lucky on the latents that it was chosen by, so both are looked at on others.
    """
    both = sorted([*words, *found], key=score_of, reverse=True)
    if not words or not problem.plain_class:
        return both
    plain, other = max(words, key=score_of), found[0]
    if beats(other, plain):
        return both
    if not (beats(plain, other) or problem.cost.leaves_out(SECOND_LOOKS)):
        fresh = [look_again(problem, start, options.n_validation, kept, _FRESH) for start in (other, plain)]
        if beats(*fresh) or score_of(fresh[0]) - score_of(fresh[1]) > _LITTLE:
            return [other, *(start for start in both if start is not other)]
    return [plain, *(start for start in both if start is not plain)]


def _random_start(problem: Problem, n_tokens: int, index: int) -> Start:
    """Return the mean of the vocabulary with a little noise."""
    table = problem.pipeline.word_table().detach().float()
    noise = normal(seeded_generator(problem.seed, "random start", index), n_tokens, table.shape[1])
    spread = table.std(0) if len(table) > 1 else torch.zeros_like(table[0])
    return Start(f"random {index}", table.mean(0) + _SPREAD * spread * noise.to(table.device), origin="random")
