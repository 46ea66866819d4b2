"""What convincing pictures have in common, as a prompt: no gradient of the classifier is needed for it.

A class that needs two things at once answers to neither of them alone, so that no gradient leads from a picture of one
to a picture of both. But of many random pictures a few show both by chance. Here soft tokens are found under which the
denoiser knows those pictures best. What their prompts differ in averages out, and what they share is left. Then the
prompt draws pictures of its own, more of which convince, and they are described in their turn.

Source: textual inversion (Gal et al., "An Image is Worth One Word", arXiv 2208.01618), eq. 2; pictures count as much as
they convince, as in reward-weighted regression (Lee et al., "Aligning Text-to-Image Models using Human Feedback",
arXiv 2302.12192), eq. 3, with odds for rewards.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.editing.likelihood import denoising_error, has_error
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.seeds import normal, seeded_generator, uniform
from diffexplain_fast.methods.diffexplainer.budget import SEARCHING
from diffexplain_fast.methods.diffexplainer.climbing import SEARCH, short_search
from diffexplain_fast.methods.diffexplainer.descent import descend
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.looking import Seen, looked_at
from diffexplain_fast.methods.diffexplainer.options import Options

STEPS = (40, 20, 20)
"""Steps of each description; after the first one its own pictures are among those that are described."""
ROWS = 8
"""Noisy samples in each step."""
DRAWN = 8
"""Pictures that each description draws."""
BEST = 8
"""Pictures that are described, at most: those that promise most."""
_LEAST_NOISE = 0.3
"""Level of noise below which text says nothing that the sample does not show by itself."""


class Turn(NamedTuple):
    """One description of pictures.

    Attributes:
        population: its number.
        what: "description", or another name of noise and of kept results.
        number: of the turn.
        steps: of Adam.
        pictures: that are described, at most: those that promise most.
    """

    population: int
    what: str
    number: int
    steps: int
    pictures: int


def can_describe(problem: Problem) -> bool:
    """Whether a pipeline's denoiser says how well it knows a picture."""
    return has_error(problem.pipeline)


def described(
    problem: Problem, options: Options, number: int, seen: Seen, latent: int, kept: Kept
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the prompt of each description [1, n, d], and the mean promise of the pictures that it draws [1].

    Args:
        problem: what is explained, with pictures of few steps.
        options: number of tokens, and how a gradient is used.
        number: of the population.
        seen: pictures to choose from.
        latent: number of the first start latent for the pictures of the descriptions.
        kept: results of an interrupted run; extended here.

    Raises:
        NonFiniteError: a score or a soft token is NaN or infinite.
    """
    soft = problem.pipeline.word_table().detach().float().mean(0).expand(options.n_tokens, -1)
    softs, means = list[Tensor](), list[Tensor]()
    for turn in range(len(STEPS)):
        if problem.cost.leaves_out(SEARCHING):
            break

        soft = moved(problem, options, Turn(number, "description", turn, STEPS[turn], BEST), seen, soft, kept)
        key, latents = [SEARCH, number, "description", turn], [*range(latent, latent + DRAWN)]
        shown = looked_at(problem, key, soft.expand(DRAWN, *soft.shape), latents, kept)
        seen, latent = seen.and_also(shown), latent + DRAWN
        softs.append(soft[None])
        means.append(shown.promise.mean()[None])
        if problem.plain_class and bool((shown.promise > 0).all()):
            break
    return softs, means


def moved(problem: Problem, options: Options, turn: Turn, seen: Seen, soft: Tensor, kept: Kept) -> Tensor:
    """Return soft tokens [n, d] under which the denoiser knows the best pictures better than under ``soft``."""
    values = kept.scored(
        [SEARCH, turn.population, f"prompt of {turn.what}", turn.number],
        soft.numel(),
        lambda: _description(problem, options, turn, seen, soft).cpu().flatten(),
    )
    return torch.tensor(values, device=soft.device, dtype=soft.dtype).reshape(soft.shape)


def _description(problem: Problem, options: Options, turn: Turn, seen: Seen, soft: Tensor) -> Tensor:
    """Return what ``moved`` keeps."""
    with torch.no_grad():
        best = seen.best(turn.pictures)
        pixels = best.drawn(problem)
        # Scored again, because a sampler that adds noise draws them otherwise in another batch.
        promise = problem.promise(problem.scores(pixels)).double().cpu() - best.lost
        clean = LatentModels(problem.pipeline, one_shape=False).encode(pixels)
    weights = _weights(problem, promise, seen.promise)
    quick, state = short_search(problem, options, soft, turn.steps)
    for step in range(turn.steps):
        if step and problem.cost.leaves_out(SEARCHING):
            break
        generator = seeded_generator(problem.seed, f"{turn.what} {turn.population}/{turn.number}", step)
        chosen = torch.multinomial(weights, ROWS, replacement=True, generator=generator).to(clean.device)
        levels = _LEAST_NOISE + (1 - _LEAST_NOISE) * uniform(generator, ROWS)
        gradient = _gradient(problem, state.soft, clean[chosen], levels, normal(generator, ROWS, *clean.shape[1:]))
        state.soft, state.adam = descend(quick, state, gradient, problem.longest_embedding)
        state.step = step + 1
    return state.soft * problem.embedding_scale


def _weights(problem: Problem, promise: Tensor, every: Tensor) -> Tensor:
    """Return how often each picture is described, by its odds, or by spreads of all pictures' promises."""
    above = promise - promise.max()
    if not problem.plain_class:
        spread = float(every.std()) if len(every) > 1 else 0.0
        above = above / spread if spread > 0 else torch.zeros_like(above)
    return above.exp()


@torch.enable_grad()
def _gradient(problem: Problem, soft: Tensor, clean: Tensor, levels: Tensor, noise: Tensor) -> Tensor:
    """Return the gradient of the mean denoising error with respect to soft tokens in units of the embedding scale."""
    soft = soft.clone().requires_grad_()
    text = problem.encode_soft(soft * problem.embedding_scale)
    problem.cost.count(len(clean), gradient=True)
    error = denoising_error(problem.pipeline, clean, levels, noise.to(clean), text, problem.calls)
    (gradient,) = torch.autograd.grad(error.mean(), soft)
    return gradient
