"""Starts from words: every candidate word is drawn, and the best one again with every other word after it."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.album import Album
from diffexplain_fast.methods.diffexplainer.budget import SECOND_LOOKS, SECOND_WORDS, WORDS
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.likeness import new_ones
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.screening import Start, beats, look_again, screen, with_few_steps
from diffexplain_fast.methods.diffexplainer.vocabulary import distinct, fits, said_by
from diffexplain_fast.models.pipeline import Pipeline

_FINALISTS = 4
"""Screened words that are scored again on the validation latents: two images say little about a word."""
_FEW_FINALISTS = 2
_SECOND_WORDS = 12
"""Screened second words that are scored again, on ``_SECOND_LOOK`` images each, before the finalists are."""
_SECOND_LOOK = 6
GOOD_ENOUGH = 0.9
"""Mean probability of the class above which one word says it all."""


def word_starts(
    problem: Problem,
    options: Options,
    words: list[str],
    class_name: str | None,
    kept: Kept,
    report: Callable[[int, int], None],
    briefly: bool = False,
) -> tuple[list[Start], list[Start]]:
    """Return the finalists, which were scored on the validation latents, the best first, and the other drawn words.

    Args:
        problem: what is explained; its target scores the screening.
        options: ``start``, ``n_tokens`` and ``n_validation`` matter here.
        words: to draw.
        class_name: joins the words where ``start`` is "auto", and is put first where it is as good as the best.
        kept: images of earlier targets of the same pipeline, and scores of an interrupted run; extended here.
        report: receives words done and words in all.
        briefly: look at few words again and at no second ones, because a search follows where none is enough.
    """
    pipeline, n, quick = problem.pipeline, options.n_tokens, with_few_steps(problem, options)
    blocks = [words] if words else []
    if class_name is not None:  # as it is written among the words, if one of them is the same
        said = said_by(pipeline, class_name)
        class_name = next((word for word in words if said_by(pipeline, word) == said), class_name)
    if options.start == "auto" and class_name and class_name not in words and fits(pipeline, class_name, n):
        blocks.append([class_name])
    starts: list[Start] = []
    total = sum(len(block) for block in blocks)
    is_over = partial(problem.cost.leaves_out, WORDS)
    for block in blocks:
        if starts and is_over():
            break
        starts += screen(quick, block, n, kept, _shifted(report, len(starts), total), is_over)
    starts = [replace(start, origin="dictionary") for start in new_ones(problem, starts)]
    starts.sort(key=score_of, reverse=True)
    count = _FEW_FINALISTS if briefly else _FINALISTS
    finalists = [*starts[:count], *(start for start in starts[count:] if start.name == class_name)]
    if not finalists:
        return [], []
    finalists = plainest_first(ranked(problem, options.n_validation, finalists, kept), class_name)
    names = {start.name for start in finalists}
    rest = [start for start in starts if start.name not in names]
    # Where no word is good enough as a start, a search that can find pairs follows, if one may.
    searched = options.start == "auto" and options.restarts > 0 and score_of(finalists[0]) < options.restart_below
    wanted = problem.plain_class and words and not (briefly or searched) and score_of(finalists[0]) < GOOD_ENOUGH
    if wanted and not problem.cost.leaves_out(SECOND_WORDS):
        finalists = _with_a_second_word(problem, options, finalists, words, kept, report)
    return finalists, rest


def ranked(problem: Problem, count: int, starts: list[Start], kept: Kept) -> list[Start]:
    """Score starts on ``count`` validation latents, and return those that were scored, the best first.

    The first start is scored in any case, the others only while something may be spent.
    """
    scored = list[Start]()
    for start in starts:
        if scored and problem.cost.leaves_out(SECOND_LOOKS):
            break
        scored.append(look_again(problem, start, count, kept))
    return sorted(scored, key=score_of, reverse=True)


def plainest_first(starts: list[Start], name: str | None) -> list[Start]:
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
    first, pipeline = finalists[0].name, problem.pipeline
    there = _said(pipeline, first)
    texts = [f"{first} {word}" for word in words if not _said(pipeline, word) <= there]
    drawn = distinct(pipeline, [*words, *(start.name for start in finalists)])
    texts = distinct(pipeline, [*drawn, *(text for text in texts if fits(pipeline, text, options.n_tokens))])
    texts = texts[len(drawn) :]
    if not texts:
        return finalists
    # The pictures of pairs are of no use to the next target, so they are not kept.
    alone, quick = replace(kept, album=Album(room=0)), with_few_steps(problem, options)
    is_over = partial(problem.cost.leaves_out, SECOND_WORDS)
    pairs = screen(quick, texts, options.n_tokens, alone, _shifted(report, 0, len(texts)), is_over)
    pairs = [replace(pair, origin=finalists[0].origin) for pair in new_ones(problem, pairs)]
    pairs.sort(key=score_of, reverse=True)
    best = ranked(problem, _SECOND_LOOK, pairs[:_SECOND_WORDS], kept)[:_FINALISTS]
    looked_at = ranked(problem, options.n_validation, best, kept)
    return plainest_first(sorted([*looked_at, *finalists], key=score_of, reverse=True), first)


def _said(pipeline: Pipeline, text: str) -> set[bytes]:
    """Return the words of a text, each as soft tokens of small letters."""
    return {said_by(pipeline, word) for word in text.casefold().split()}


def score_of(start: Start) -> float:
    """Return a start's score, minus infinity if it has none."""
    return -math.inf if start.score is None else start.score


def _shifted(report: Callable[[int, int], None], before: int, total: int) -> Callable[[int], None]:
    return lambda count: report(before + count, total)
