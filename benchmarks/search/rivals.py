"""Searches to compare, each a function of an explainer, a class, a mode and a budget.

A rival has the pictures of our search: half the denoising steps, fresh latents in every step, and the same budget in
rows of the denoiser. It returns the prompt that promised most on its own pictures.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import gumbel_softmax, normalize

import diffexplain_fast as dx
from benchmarks.search.cells import CLOSED, LABELS
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.screening import with_few_steps
from diffexplain_fast.results.explanation import first_words
from diffexplain_fast.runs.progress import Progress
from diffexplain_fast.runs.spending import read_limit
from diffexplain_fast.targets import as_target

OURS = "ours"
_TOKENS, _PICTURES = 3, 2
_POPULATION, _ELITE = 16, 4
_AXES, _SPREAD, _MUTATES = 32, 1.2, 0.3
"""Axes of mixtures of words, their first spread, and the chance of a word to be drawn anew."""


class Found(NamedTuple):
    """What a search found, and what it cost.

    Attributes:
        soft: soft tokens [n, d].
        words: that name them.
        by: how it was found.
        words_drawn: words whose pictures were drawn.
        forward: rows of the denoiser without gradient.
        gradient: rows with gradient.
        rate: share of unseen draws that are recognised, None if it is not known yet.
        scoring: CPU seconds of that.
        naming_rows: rows of either kind that went into a name for the result, after the search.
        naming: CPU seconds of that.
    """

    soft: Tensor
    words: list[str]
    by: str
    words_drawn: int
    forward: int
    gradient: int
    rate: float | None = None
    scoring: float = 0.0
    naming_rows: int = 0
    naming: float = 0.0


class Method(NamedTuple):
    """A search, and the gradient mode of its explainer."""

    search: Callable[[dx.Explainer, str, str, str | None], Found]
    gradient: str = "full"


def problem_of(explainer: dx.Explainer, label: str) -> Problem:
    """Return the problem that ``explain`` solves for a label."""
    pipeline, (steps, guidance) = explainer.pipeline, explainer.pipeline.usual_sampling
    sampler = dx.DifferentiableSampler.from_pipe(pipeline, num_inference_steps=steps, guidance_scale=guidance)
    target = as_target(label).bind(explainer.classifier)
    return Problem(pipeline, sampler, explainer.classifier, target, "", explainer.seed)


def explained(explainer: dx.Explainer, label: str, mode: str, budget: str | None, **options: Any) -> Found:
    """Search with ``explain``."""
    ends: dict[str, float] = {}

    def note(progress: Progress) -> None:
        ends[progress.phase] = time.process_time()

    if mode == LABELS:
        options = {"candidates": list(explainer.classifier.labels or ())} | options
    if mode == CLOSED:
        options = {"start": "gradient"} | options
    explanation = explainer.explain(label, budget=budget, n_images=1, n_score=32, callback=note, **options)
    named = ends.get("name", ends["optimise"])
    scoring, naming = time.process_time() - named, named - ends["optimise"]
    found: Any = explanation.settings["found"]
    by, start = str(found["by"]), str(explanation.settings["start"])
    words = start.split() if by in ("dictionary", "proposals") else first_words(explanation)
    rows = int(found["cost"]["forward"]), int(found["cost"]["gradient"])
    rate = explanation.activation["held_out"].rate
    naming_rows = explanation.named["rows"] if explanation.named and naming else 0
    drawn = int(found["words_drawn"])
    return Found(explanation.prompt_embeds, words, by, drawn, *rows, rate, scoring, naming_rows, naming)


def class_name(explainer: dx.Explainer, label: str, mode: str, budget: str | None) -> Found:
    """The gradient from the class name: what ``explain`` did for a large vocabulary before it searched."""
    return explained(explainer, label, mode, budget, start="class_name", restart_below=1.0, iterations=1000)


class Tried:
    """The pictures of a rival: counts what they cost, and remembers the best prompt."""

    def __init__(self, explainer: dx.Explainer, label: str, budget: str | None) -> None:
        if budget is None:
            raise SystemExit('a rival never ends by itself: give it a --budget, as "2000 rows"')
        whole = problem_of(explainer, label)
        self.problem = with_few_steps(whole, Options())
        self.table = whole.pipeline.word_table().detach().float()
        self.generator = torch.Generator().manual_seed(explainer.seed)
        self._best, self._latent = (float("-inf"), self.table[:_TOKENS]), 0
        self.problem.cost.limit = read_limit(budget)

    @property
    def goes_on(self) -> bool:
        """Whether there is budget left."""
        return not self.problem.cost.is_at_limit

    def promise(self, softs: Tensor) -> Tensor:
        """Return the mean promise [P] of fresh pictures of P prompts [P, n, d], with a graph where one is wanted."""
        latents = range(self._latent, self._latent + _PICTURES)
        self._latent += _PICTURES
        conditioning = self.problem.encode_soft(softs.repeat_interleave(_PICTURES, 0))
        pixels = self.problem.images(conditioning, "search", [*latents] * len(softs))
        promise = self.problem.promise(self.problem.scores(pixels)).reshape(-1, _PICTURES).mean(1)
        values = promise.detach()
        best = int(values.argmax())
        if float(values[best]) > self._best[0]:
            self._best = float(values[best]), softs[best].detach()
        return promise

    def found(self, by: str, words_drawn: int) -> Found:
        """Return the best prompt."""
        soft, cost = self._best[1], self.problem.cost
        words = [near[0][0] for near in self.problem.pipeline.nearest_words(soft, 1)]
        return Found(soft, words, by, words_drawn, cost.forward, cost.gradient)


@torch.no_grad()
def random_words(explainer: dx.Explainer, label: str, mode: str, budget: str | None) -> Found:
    """Draw random words of the vocabulary; keep the best."""
    tried, drawn = Tried(explainer, label, budget), 0
    while tried.goes_on:
        chosen = torch.randint(len(tried.table), (4, _TOKENS), generator=tried.generator)
        tried.promise(tried.table[chosen])
        drawn += chosen.numel()
    return tried.found("random words", drawn)


def pez(explainer: dx.Explainer, label: str, mode: str, budget: str | None) -> Found:
    """Optimise tokens through their nearest words.

    Source: Wen, Jain, Kirchenbauer, Goldblum, Geiping, Goldstein, "Hard Prompts Made Easy" (arXiv 2302.03668).
    """
    tried, drawn = Tried(explainer, label, budget), 0
    start = torch.randint(len(tried.table), (_TOKENS,), generator=tried.generator)
    soft = tried.table[start].clone().requires_grad_()
    optimiser = torch.optim.AdamW([soft], lr=0.1 * float(tried.table.std()), weight_decay=0.1)
    while tried.goes_on:
        nearest = (normalize(soft.detach(), dim=-1) @ normalize(tried.table, dim=-1).T).argmax(1)
        hard = tried.table[nearest].clone().requires_grad_()
        (soft.grad,) = torch.autograd.grad(-tried.promise(hard[None]).sum(), hard)
        optimiser.step()
        drawn += _TOKENS
    return tried.found("pez", drawn)


def gumbel(explainer: dx.Explainer, label: str, mode: str, budget: str | None) -> Found:
    """Optimise the logits of words, drawn with hard Gumbel-softmax: DEXTER's words without its language model.

    Source: DEXTER (arXiv 2510.14741), section 3.
    """
    tried, drawn = Tried(explainer, label, budget), 0
    logits = torch.zeros(_TOKENS, len(tried.table), requires_grad=True)
    optimiser = torch.optim.AdamW([logits], lr=0.1, eps=1e-4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(explainer.seed)
        while tried.goes_on:
            _gumbel_step(tried, logits, optimiser)
            drawn += _TOKENS
    return tried.found("gumbel", drawn)


def _gumbel_step(tried: Tried, logits: Tensor, optimiser: torch.optim.Optimizer) -> None:
    """Draw a prompt of words by their logits [n, V], and move these along its gradient."""
    soft = gumbel_softmax(logits, tau=1.0, hard=True) @ tried.table
    (logits.grad,) = torch.autograd.grad(-tried.promise(soft[None]).sum(), logits)
    optimiser.step()


@torch.no_grad()
def evolution(explainer: dx.Explainer, label: str, mode: str, budget: str | None) -> Found:
    """Cross-entropy method over mixtures of the vocabulary: no gradient, no word.

    Source: Rubinstein, "The cross-entropy method for combinatorial and continuous optimization" (1999).
    """
    tried = Tried(explainer, label, budget)
    mean, axes = _mixtures(tried.table)
    middle, spread = torch.zeros(_TOKENS, len(axes)), torch.full((_TOKENS, len(axes)), _SPREAD)
    while tried.goes_on:
        weights = middle + spread * torch.randn(_POPULATION, _TOKENS, len(axes), generator=tried.generator)
        best = weights[tried.promise(mean + weights @ axes).topk(_ELITE).indices]
        middle, spread = best.mean(0), 0.7 * best.std(0) + 0.3 * spread
    return tried.found("evolution", 0)


@torch.no_grad()
def cma_es(explainer: dx.Explainer, label: str, mode: str, budget: str | None) -> Found:
    """CMA-ES over mixtures of the vocabulary, by the package ``cma``: no gradient, no word.

    Source: Hansen, "The CMA Evolution Strategy: A Tutorial" (arXiv 1604.00772).
    """
    try:
        import cma
    except ImportError:
        raise SystemExit('cma-es needs the package cma: pip install "diffexplain-fast[search]"') from None
    tried = Tried(explainer, label, budget)
    mean, axes = _mixtures(tried.table)
    options = {"popsize": _POPULATION, "seed": explainer.seed + 1, "verbose": -9}
    strategy = cma.CMAEvolutionStrategy([0.0] * (_TOKENS * len(axes)), _SPREAD, options)
    while tried.goes_on:
        asked = strategy.ask()
        weights = torch.tensor(np.array(asked), dtype=torch.float32).reshape(_POPULATION, _TOKENS, len(axes))
        strategy.tell(asked, (-tried.promise(mean + weights @ axes)).tolist())
    return tried.found("cma-es", 0)


def class_tokens(explainer: dx.Explainer, label: str, mode: str, budget: str | None) -> Found:
    """Optimise tokens before the class name with the gradient of the last denoising step.

    Source: Schwartz et al., "Discriminative Class Tokens for Text-to-Image Diffusion Models" (arXiv 2303.17155).
    """
    tried = Tried(explainer, label, budget)
    name = tried.problem.pipeline.token_embeddings(label).detach().float()
    soft = tried.table.mean(0).repeat(_TOKENS - 1, 1).requires_grad_()
    optimiser = torch.optim.AdamW([soft], lr=0.1 * float(tried.table.std()), weight_decay=0.0)
    while tried.goes_on:
        optimiser.zero_grad()
        (-tried.promise(torch.cat([soft, name])[None]).sum()).backward()
        optimiser.step()
    return tried.found("class tokens", 0)


def dpo_diff(explainer: dx.Explainer, label: str, mode: str, budget: str | None) -> Found:
    """Learn a distribution over words by shortcut gradients for half of the budget, then evolve words drawn from it.

    Source: Wang et al., "On Discrete Prompt Optimization for Diffusion Models" (arXiv 2407.01606), sections 3.3 and
    3.4; without the language model that gives it a small space of words, so the space is the vocabulary.
    """
    tried = Tried(explainer, label, budget)
    logits = torch.zeros(_TOKENS, len(tried.table), requires_grad=True)
    optimiser = torch.optim.RMSprop([logits], lr=0.1)
    half = (tried.problem.cost.limit.rows or 0) / 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(explainer.seed)
        while tried.goes_on and tried.problem.cost.rows < half:
            _gumbel_step(tried, logits, optimiser)
        drawn, chances = _TOKENS * _POPULATION, logits.detach().softmax(1)
        words = torch.multinomial(chances, _POPULATION, replacement=True).T
        parents, values = words[:0], torch.zeros(0)
        while tried.goes_on:
            with torch.no_grad():
                best = torch.cat([values, tried.promise(tried.table[words])]).topk(_ELITE)
            parents, values = torch.cat([parents, words])[best.indices], best.values
            words, drawn = children(parents, chances), drawn + _TOKENS * _POPULATION
    return tried.found("dpo-diff", drawn)


def children(parents: Tensor, chances: Tensor) -> Tensor:
    """Return prompts of words [_POPULATION, n], each word of one of two parents [E, n] or drawn anew from chances."""
    pairs = torch.randint(len(parents), (2, _POPULATION))
    crossed = torch.where(torch.rand(_POPULATION, _TOKENS) < 0.5, parents[pairs[0]], parents[pairs[1]])
    fresh = torch.multinomial(chances, _POPULATION, replacement=True).T
    return torch.where(torch.rand(_POPULATION, _TOKENS) < _MUTATES, fresh, crossed)


def _mixtures(table: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of a vocabulary and its main axes, each as long as the vocabulary's deviation along it."""
    mean = table.mean(0)
    _, lengths, axes = torch.linalg.svd(table - mean, full_matrices=False)
    return mean, axes[:_AXES] * (lengths[:_AXES, None] / max(1, len(table) - 1) ** 0.5)


RIVALS: dict[str, Method] = {
    OURS: Method(explained),
    "ours last:1": Method(explained, "last:1"),
    "ours shortcut:1": Method(explained, "shortcut:1"),
    "class name": Method(class_name),
    "random words": Method(random_words),
    "pez": Method(pez),
    "gumbel": Method(gumbel),
    "evolution": Method(evolution),
    "cma-es": Method(cma_es),
    "class tokens": Method(class_tokens, "last:1"),
    "dpo-diff": Method(dpo_diff, "shortcut:1"),
}
