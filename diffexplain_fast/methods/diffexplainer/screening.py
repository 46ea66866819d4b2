"""Forward-only screening: every candidate word drawn a few times in exactly the soft prompt that it would start."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.kept import SCREEN, Kept
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.vocabulary import NEUTRAL, check_fits
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.results.named import Named

SCREEN_LATENTS = 2
"""Images per screened word."""
_FEWEST_STEPS = 4
"""Denoising steps of a picture below which neither screening nor a search goes."""
_BEYOND_CHANCE = 1.645
"""Standard errors."""


@dataclass(frozen=True, eq=False)
class Start:
    """One start of an optimisation.

    Attributes:
        name: the words, or "random 0".
        soft: soft tokens [n_tokens, d].
        score: mean target score of its images, None if it was not screened.
        each: the scores behind it [images], None if it was not looked at again; starts share their latents.
        origin: "dictionary" (a screened word), "proposals" (words that name what a search found), "description" (of
            pictures that convinced by chance), "gradient" (no words), "random" (no words, and not searched for), or
            "given".
        named: what came of naming it, None where nobody tried.
    """

    name: str
    soft: Tensor
    score: float | None = None
    each: Tensor | None = None
    origin: str = "gradient"
    named: Named | None = None


def soft_from_text(pipeline: Pipeline, text: str, n_tokens: int) -> Tensor:
    """Return [n_tokens, d]: the tokens of a text, after as many neutral "a" as there is room for.

    Raises:
        ValueError: the text has no token, more than ``n_tokens``, or a character that the tokenizer does not know.
    """
    check_fits("start", pipeline, text, n_tokens)
    tokens = pipeline.token_embeddings(text).detach().float()
    neutral = pipeline.token_embeddings(NEUTRAL).detach().float()[:1]
    return torch.cat([neutral.expand(n_tokens - len(tokens), -1), tokens])


def with_last(problem: Problem, neutral: Tensor, places: list[int]) -> Tensor:
    """Return soft tokens [P, n, d] of which the last is the word at a place of the vocabulary, after neutral ones."""
    softs = neutral.expand(len(places), -1, -1).clone()
    softs[:, -1] = problem.pipeline.word_table().detach().float()[places]
    return softs


def with_few_steps(problem: Problem, options: Options) -> Problem:
    """Return the problem with pictures of few denoising steps, for looks at many prompts; see ``search_steps``."""
    usual = problem.sampler.num_inference_steps
    return problem.with_steps(min(usual, options.search_steps or max(_FEWEST_STEPS, usual // 2)))


@torch.no_grad()
def screen(
    problem: Problem,
    words: Sequence[str],
    n_tokens: int,
    kept: Kept,
    report: Callable[[int], None],
    is_over: Callable[[], bool],
) -> list[Start]:
    """Score every word on the same few latents; the pictures are kept for the next target.

    Args:
        problem: what is explained, with pictures of few steps.
        words: texts of at most ``n_tokens`` tokens.
        n_tokens: soft tokens.
        kept: see there; extended here.
        report: receives the number of words done.
        is_over: says after every batch whether further words are left out.
    """
    softs = torch.stack([soft_from_text(problem.pipeline, word, n_tokens) for word in words])
    per_batch = problem.forward_batch // SCREEN_LATENTS
    means: list[float] = []

    def score(batch: slice) -> Tensor:
        rows = softs[batch].repeat_interleave(SCREEN_LATENTS, 0)
        latents = [*range(SCREEN_LATENTS)] * (len(rows) // SCREEN_LATENTS)
        key = (SCREEN, n_tokens, *words[batch])
        pixels = kept.album.pictures(problem, key, lambda: problem.images(problem.encode_soft(rows), "screen", latents))
        return problem.merit(problem.scores(pixels)).reshape(-1, SCREEN_LATENTS).mean(1)

    for first in range(0, len(words), per_batch):
        if means and is_over():
            break
        batch = slice(first, first + per_batch)
        means += kept.scored([SCREEN, problem.steps, *words[batch]], len(words[batch]), partial(score, batch))
        report(len(means))
    done = len(means)
    return [Start(word, soft, mean) for word, soft, mean in zip(words[:done], softs[:done], means, strict=True)]


def look_again(problem: Problem, start: Start, count: int, kept: Kept, stage: str = "validation") -> Start:
    """Return a start with its score on ``count`` latents of a stage."""

    @torch.no_grad()
    def score() -> Tensor:
        conditioning = problem.encode_soft(start.soft)
        return torch.cat([problem.merit(part) for _, part in problem.batches(conditioning, stage, count)])

    key = ["look again", start.name, count, *([] if stage == "validation" else [stage])]
    each = torch.tensor(kept.scored(key, count, score), dtype=torch.float64, device="cpu")
    return replace(start, score=float(each.mean()), each=each)


def beats(start: Start, other: Start) -> bool:
    """Whether a start scores higher than another by more than chance on the latents that both were looked at with.

    Chance is a one-sided 95 % paired z-test. Without it the best of many words is the luckiest.
    """
    assert start.each is not None and other.each is not None
    gain = start.each - other.each
    return bool(gain.mean() > _BEYOND_CHANCE * gain.std(correction=0) / len(gain) ** 0.5)
