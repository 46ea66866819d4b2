"""Pictures of random prompts, looked at for some that convince the classifier by chance.

A picture of several random words shows several things at once. So a class that needs two things together is met by one
in fifty to a hundred such pictures, where it answers to no word alone. These pictures are drawn without guidance: they
take half the rows, and a generator that obeys less shows more that nobody asked for, such as what no word names.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.editing.likelihood import has_error
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.seeds import seeded_generator
from diffexplain_fast.methods.diffexplainer.budget import SEARCHING
from diffexplain_fast.methods.diffexplainer.climbing import SEARCH
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.likeness import penalty
from diffexplain_fast.methods.diffexplainer.shown import lost, make_scale, shares
from diffexplain_fast.models.conditioning import joined

BAGS, LOOKS = 64, 3
"""Prompts of random words that are drawn at a time, once each, and times that this is done, at most."""
BAG = 5
"""Words in each of them: of fewer too few meet, and of more the generator leaves some out."""
_ENOUGH = 2
"""Pictures that convince, with which no more are drawn."""


class Seen(NamedTuple):
    """Pictures that were looked at; each can be drawn again.

    Attributes:
        softs: soft tokens [n, d] of each picture; n may differ.
        latents: numbers of their start latents.
        promise: of each [K], see ``Problem.promise``, less what it loses.
        lost: what each loses because it shows what is explained already, [K].
        guided: whether each was drawn with guidance.
    """

    softs: list[Tensor]
    latents: list[int]
    promise: Tensor
    lost: Tensor
    guided: list[bool]

    def and_also(self, other: "Seen") -> "Seen":
        """Return these and others."""
        promise, lost = torch.cat([self.promise, other.promise]), torch.cat([self.lost, other.lost])
        softs, latents = [*self.softs, *other.softs], [*self.latents, *other.latents]
        return Seen(softs, latents, promise, lost, [*self.guided, *other.guided])

    def best(self, count: int) -> "Seen":
        """Return those that promise most."""
        chosen = self.promise.argsort(descending=True, stable=True)[:count].tolist()
        softs, latents = [self.softs[i] for i in chosen], [self.latents[i] for i in chosen]
        return Seen(softs, latents, self.promise[chosen], self.lost[chosen], [self.guided[i] for i in chosen])

    @torch.no_grad()
    def drawn(self, problem: Problem) -> Tensor:
        """Draw the pictures [K, 3, H, W] again."""
        found, each = dict[int, Tensor](), problem.forward_batch
        for guided, drawer in ((True, problem), (False, problem.without_guidance())):
            places = [i for i, one in enumerate(self.guided) if one is guided]
            for batch in (places[i : i + each] for i in range(0, len(places), each)):
                text = joined([drawer.encode_soft(self.softs[i]) for i in batch])
                pixels = drawer.images(text, SEARCH, [self.latents[i] for i in batch])
                found |= dict(zip(batch, pixels, strict=True))
        return torch.stack([found[i] for i in range(len(self.softs))])


def looked_at(
    problem: Problem, key: list[object], softs: Tensor, latents: list[int], kept: Kept, shared: bool = False
) -> Seen:
    """Draw one picture of each of the prompts [K, n, d] and say what it promises that is not explained already.

    Args:
        problem: what is explained, with pictures of few steps.
        key: under which the promises are kept.
        softs: soft tokens of each picture.
        latents: numbers of their start latents.
        kept: results of an interrupted run; extended here.
        shared: whether ``key`` and the form of ``softs`` decide the prompts and latents, for every target and
            classifier.

    Raises:
        NonFiniteError: a score is NaN or infinite.
    """

    tells = bool(problem.others) and has_error(problem.pipeline)
    if tells:
        make_scale(problem)

    @torch.no_grad()
    def look(batch: slice) -> Tensor:
        def draw() -> Tensor:
            return problem.images(problem.encode_soft(softs[batch]), SEARCH, latents[batch])

        all_of_key = (*key, *softs.shape, batch.start, batch.stop)
        pixels = kept.album.pictures(problem, all_of_key, draw) if shared else draw()
        promise = problem.promise(problem.scores(pixels)).double().cpu()
        return torch.stack([promise, shares(problem, pixels, promise)], 1).flatten() if tells else promise

    found, each, values = list[float](), problem.forward_batch, 1 + tells
    for first in range(0, len(softs), each):
        if found and problem.cost.leaves_out(SEARCHING):
            break
        batch = slice(first, first + each)
        found += kept.scored([*key, "from", first], values * len(softs[batch]), partial(look, batch))
    table = torch.tensor(found, dtype=torch.float64, device="cpu").reshape(-1, values)
    promise, done = table[:, 0], len(table)
    less = lost(problem, promise, table[:, 1]) if tells else penalty(problem, softs[:done])
    return Seen([*softs[:done]], latents[:done], promise - less, less, [problem.guided] * done)


def with_bags(problem: Problem, number: int, seen: Seen, latent: int, kept: Kept) -> Seen:
    """Return pictures, and as many unguided pictures of random words as it takes until a few of all convince.

    Args:
        problem: as in ``looked_at``.
        number: of the population; decides the words.
        seen: pictures that were looked at.
        latent: number of the first start latent.
        kept: as in ``looked_at``.
    """
    table = problem.pipeline.word_table().detach().float()
    room = problem.pipeline.max_tokens - len(problem.pipeline.token_ids(problem.prefix))
    unguided = problem.without_guidance()
    for turn in range(LOOKS):
        if int((seen.promise > 0).sum()) >= _ENOUGH or problem.cost.leaves_out(SEARCHING):
            break
        generator = seeded_generator(problem.seed, f"bags {number}", turn)
        words = torch.randint(len(table), (BAGS, min(BAG, room)), generator=generator)
        latents = [*range(latent + turn * BAGS, latent + (turn + 1) * BAGS)]
        softs = table[words.to(table.device)]
        key: list[object] = [SEARCH, number, "unguided bags", turn]
        seen = seen.and_also(looked_at(unguided, key, softs, latents, kept, shared=True))
    return seen
