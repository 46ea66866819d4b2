"""Steps with a gradient of many prompts side by side, as one rung of a search takes them."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.errors import NonFiniteError
from diffexplain_fast.evidence.perturb import perturb
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.seeds import seeded_generator
from diffexplain_fast.methods.diffexplainer.budget import SEARCHING
from diffexplain_fast.methods.diffexplainer.descent import descend
from diffexplain_fast.methods.diffexplainer.loss import word_distance
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.state import State

SEARCH = "search"
"""Stage of the latents."""
_FASTER = 4.0
"""Step size of a short search as a multiple of the step size of a long one."""
_MEMORY = 0.6
"""Weight of the steps before in a prompt's running promise."""
_STEPS_TO_BE_SURE = 2
"""Steps in a row whose pictures all convince, after which a rung need not go on."""


class Rung(NamedTuple):
    """Steps with a gradient between two choices.

    Attributes:
        prompts: that begin the rung.
        steps: of Adam, of each prompt.
        pictures: of each prompt in a step.
    """

    prompts: int
    steps: int
    pictures: int

    @property
    def latents(self) -> int:
        """Start latents that the rung uses."""
        return self.steps * self.pictures


class _Ascent(NamedTuple):
    """One step of P prompts: gradients of the losses [P, n, d], mean promise [P], and whether all pictures convince."""

    gradient: Tensor
    promise: Tensor
    convincing: Tensor


def short_search(problem: Problem, options: Options, softs: Tensor, steps: int) -> tuple[Options, State]:
    """Return options with larger steps for a short search, and its state before the first step; for ``descend``.

    Args:
        problem: what is explained.
        options: of a long search.
        softs: soft tokens that it begins with, of one prompt [n, d] or of P prompts [P, n, d].
        steps: that it takes.
    """
    quick = replace(options, lr=options.lr * _FASTER, iterations=max(options.iterations, steps))
    return quick, State(softs, [], softs / problem.embedding_scale, softs)


def climb(problem: Problem, options: Options, rung: Rung, softs: Tensor, latent: int) -> tuple[Tensor, Tensor]:
    """Return the running mean promise [P] of P prompts and their moved soft tokens [P, n, d].

    Args:
        problem: what is explained.
        options: how the gradient is used; the steps after the first are left out where nothing more may be spent.
        rung: how many steps and pictures.
        softs: soft tokens [P, n, d].
        latent: number of the first start latent; every step has fresh ones, which all prompts share.

    Raises:
        NonFiniteError: a loss or a gradient is NaN or infinite.
    """
    quick, state = short_search(problem, options, softs, rung.steps)
    running, sure = torch.zeros(2, len(softs), dtype=torch.float32, device="cpu")
    for step in range(rung.steps):
        if step and problem.cost.leaves_out(SEARCHING):
            break
        found = _step(problem, options, state.soft, latent, rung.pictures)
        moved, state.adam = descend(quick, state, found.gradient, problem.longest_embedding)
        # Where all pictures convince, a gradient of unit size would be a step into noise.
        state.soft = torch.where(found.convincing.bool().to(moved.device)[:, None, None], state.soft, moved)
        running = found.promise if step == 0 else _MEMORY * running + (1 - _MEMORY) * found.promise
        sure = (sure + 1) * found.convincing
        state.step, latent = step + 1, latent + rung.pictures
        if bool((sure >= _STEPS_TO_BE_SURE).any()):
            break
    return running, state.soft * problem.embedding_scale


def prompts_at_once(options: Options, pictures: int) -> int:
    """Return the prompts of one call with gradient that draws so many pictures of each, ``search_batch`` in all."""
    return max(1, options.search_batch // pictures)


def _step(problem: Problem, options: Options, softs: Tensor, latent: int, pictures: int) -> _Ascent:
    """Compute one step in calls of at most ``search_batch`` pictures."""
    each = prompts_at_once(options, pictures)
    batches = [softs[first : first + each] for first in range(0, len(softs), each)]
    parts = [_part(problem, options, batch, latent, pictures) for batch in batches]
    return _Ascent(*(torch.cat(values) for values in zip(*parts, strict=True)))


@torch.enable_grad()
def _part(problem: Problem, options: Options, softs: Tensor, latent: int, pictures: int) -> _Ascent:
    soft, count = softs.clone().requires_grad_(), len(softs)
    rows = (soft * problem.embedding_scale).repeat_interleave(pictures, 0)
    pixels = problem.images(problem.encode_soft(rows), SEARCH, [*range(latent, latent + pictures)] * count)
    generator = seeded_generator(problem.seed, "perturb search", latent)
    scores = problem.scores(perturb(pixels, options.cutouts, options.noise, generator))

    def per_prompt(values: Tensor) -> Tensor:  # of every view of every picture
        return values.reshape(-1, count, pictures).transpose(0, 1).flatten(1)

    loss = -per_prompt(scores.score).mean(1).sum()
    if options.word_pull:
        loss = loss + options.word_pull * count * word_distance(soft.flatten(0, 1), problem.vocabulary)
    (gradient,) = torch.autograd.grad(loss, soft)
    if not (loss.isfinite() and gradient.isfinite().all()):
        raise NonFiniteError(f"search: wanted a finite loss and gradient, got a loss of {loss.item()}")
    convincing = torch.zeros(count, dtype=torch.float32, device="cpu")
    if problem.plain_class and options.stop_probability is not None and scores.probability is not None:
        convincing = (per_prompt(scores.probability) >= options.stop_probability).all(1).float().cpu()
    return _Ascent(gradient, per_prompt(problem.promise(scores).detach()).mean(1).cpu(), convincing)
