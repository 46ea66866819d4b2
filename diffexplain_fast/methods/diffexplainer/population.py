"""Many short searches side by side: of a population of prompts the most promising go on, again and again.

A gradient from one neutral prompt succeeds only by luck, because most prompts draw pictures that tell the classifier
nothing. So the search begins with many prompts that differ as the words of the vocabulary differ, draws each of them a
few times, and lets gradients move only the few that promise most. The first of them describes the pictures that
convince, see ``describing``; where hardly any picture does, prompts of random words are drawn too, see ``looking``.
Every rung has fresh latents, the same for all prompts, so that no prompt goes on because its latents were lucky.

Source: successive halving (Jamieson, Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
Optimization", arXiv 1502.07943), with steps of Adam between the choices.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.seeds import normal, seeded_generator
from diffexplain_fast.methods.diffexplainer.budget import SEARCHING
from diffexplain_fast.methods.diffexplainer.climbing import SEARCH, Rung, climb, prompts_at_once
from diffexplain_fast.methods.diffexplainer.describing import DRAWN, can_describe, described
from diffexplain_fast.methods.diffexplainer.describing import STEPS as DESCRIBED
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.likeness import penalty
from diffexplain_fast.methods.diffexplainer.looking import BAGS, LOOKS, Seen, looked_at, with_bags
from diffexplain_fast.methods.diffexplainer.options import Options
from diffexplain_fast.methods.diffexplainer.screening import Start

RANDOM_PROMPTS = 32
FIRST_LOOK = 2
"""Pictures of each prompt before any gradient."""
_GOOD = 1.0
"""Mean promise of a description, in log-odds, above which the first rung is left out."""
RUNGS = (Rung(8, 4, 2), Rung(3, 5, 4))
LEFT = 2
"""Prompts that the last rung leaves."""
_SPREAD = 1.2
"""Spread of random prompts in units of the vocabulary's own."""
_LATENTS = FIRST_LOOK + LOOKS * BAGS + len(DESCRIBED) * DRAWN + sum(rung.latents for rung in RUNGS)
"""Start latents of one population."""
STEPS = 2 + sum(rung.steps for rung in RUNGS)
"""What a population reports as its steps, at most: the looks, the description, and every step of Adam."""


def check_search(problem: Problem, options: Options) -> None:
    """Refuse the caller's limit of bytes where the last rung, which no search leaves out, does not fit into it.

    Args:
        problem: what is explained, with pictures of few steps.
        options: ``n_tokens`` and ``search_batch`` matter here.

    Raises:
        ValueError: see ``Problem.check_room``.
    """
    rung = RUNGS[-1]
    at_once = min(rung.prompts, prompts_at_once(options, rung.pictures))
    problem.check_room(options.n_tokens, at_once * rung.pictures)


def random_prompts(problem: Problem, n_tokens: int, number: int) -> Tensor:
    """Return [RANDOM_PROMPTS, n_tokens, d]: normal tokens with the mean and covariance of the vocabulary's embeddings.

    Such a token is a random mixture of words. Noise of the same size without the covariance mostly leaves the
    directions in which words differ, and then all prompts draw nearly the same pictures.
    """
    table = problem.pipeline.word_table().detach().float()
    mean = table.mean(0)
    weights = normal(seeded_generator(problem.seed, "population", number), RANDOM_PROMPTS, n_tokens, len(table))
    spread: float = _SPREAD / max(1, len(table) - 1) ** 0.5
    return mean + spread * (weights.to(table.device) @ (table - mean))


def search_population(
    problem: Problem,
    options: Options,
    number: int,
    members: Sequence[Start],
    kept: Kept,
    report: Callable[[int], None],
) -> list[Start]:
    """Return the prompts that are left of a population, the most promising first.

    Args:
        problem: what is explained, with pictures of few steps.
        options: number of tokens, and how the gradient is used.
        number: of the population; decides its random prompts and latents.
        members: starts that join the random prompts.
        kept: results of an interrupted run; extended here.
        report: receives the steps that are done, ``STEPS`` at most.

    Raises:
        NonFiniteError: a score, a loss or a gradient is NaN or infinite.
    """
    latent, rungs, done = number * _LATENTS, [*enumerate(RUNGS)], 2
    softs, seen = _first_look(problem, options, number, members, latent, kept)
    latent, promise = latent + FIRST_LOOK, seen.promise.reshape(-1, FIRST_LOOK).mean(1)
    origins = ["gradient"] * len(softs)
    report(1)
    if can_describe(problem):
        seen = with_bags(problem, number, seen, latent, kept) if problem.plain_class else seen
        more, means = described(problem, options, number, seen, latent + LOOKS * BAGS, kept)
        softs, promise = torch.cat([*more, softs]), torch.cat([*means, promise])
        origins = ["description"] * len(more) + origins
        rungs = rungs[1:] if problem.plain_class and max(map(float, means), default=0.0) > _GOOD else rungs
    latent += LOOKS * BAGS + len(DESCRIBED) * DRAWN
    report(done)
    for place, rung in rungs:
        if problem.cost.leaves_out(SEARCHING):
            break
        chosen = promise.argsort(descending=True, stable=True)[: rung.prompts]
        softs, origins = softs[chosen.to(softs.device)], [origins[i] for i in chosen]

        def climbed(rung: Rung = rung, softs: Tensor = softs, latent: int = latent) -> Tensor:
            promise, moved = climb(problem, options, rung, softs, latent)
            return torch.cat([promise.double(), moved.double().cpu().flatten()])

        values = kept.scored([SEARCH, number, "rung", place], len(softs) + softs.numel(), climbed)
        found = torch.tensor(values, dtype=torch.float64, device="cpu")
        promise, softs = found[: len(softs)], found[len(softs) :].reshape(softs.shape).to(softs)
        promise = promise - penalty(problem, softs)
        latent, done = latent + rung.latents, done + rung.steps
        report(done)
    best = promise.argsort(descending=True, stable=True)[:LEFT].tolist()
    return [
        Start(f"{SEARCH} {number}.{rank}", softs[i], float(promise[i]), origin=origins[i])
        for rank, i in enumerate(best)
    ]


def _first_look(
    problem: Problem, options: Options, number: int, members: Sequence[Start], latent: int, kept: Kept
) -> tuple[Tensor, Seen]:
    """Return the prompts [K, n, d] that were drawn, members and then random ones, and their pictures."""
    softs = random_prompts(problem, options.n_tokens, number)
    given = torch.stack([start.soft for start in members]).to(softs) if members else softs[:0]
    latents = [*range(latent, latent + FIRST_LOOK)]

    def look(some: Tensor, what: str, shared: bool) -> Seen:
        rows = some.repeat_interleave(FIRST_LOOK, 0)
        return looked_at(problem, [SEARCH, number, what], rows, latents * len(some), kept, shared)

    known, seen = look(given, "members", shared=False), look(softs, "random look", shared=True)
    done = len(seen.softs) // FIRST_LOOK
    return torch.cat([given[: len(known.softs) // FIRST_LOOK], softs[:done]]), known.and_also(seen)
