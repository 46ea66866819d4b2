"""How alike two prompts are: by what they add to the denoiser's answer, so that no picture is drawn.

The text encoder says little of it. To it a house at night is like a house with a kite, and two prompts of a search that
both draw a night need not be alike. To the denoiser it is the other way round.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from diffexplain_fast.editing.likelihood import denoiser_output, has_error
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.seeds import normal, seeded_generator
from diffexplain_fast.methods.diffexplainer.screening import Start, soft_from_text

_BATCH = 64
_ASKED, _LEVEL = 2, 0.9
"""Noises of which the denoiser is asked about a prompt, and their level."""
_SAME, _SAME_TEXT = 0.6, 0.55
"""Likeness above which two prompts count as one explanation, to the denoiser and to the text encoder."""
_FREE, _FULL = 0.3, 0.6
"""Likeness up to which a prompt loses nothing, and from which it loses all: of prompts with one value in common and
others beside it 95 % are above .36, and of those with none 95 % below .40."""
_PENALTY = 10.0
"""Log-odds that a prompt loses which is wholly like an explanation that is there already."""


@torch.no_grad()
def likeness(problem: Problem, softs: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Return the cosine [P, M] of what P and M prompts add to a neutral prompt in the text encoder's output.

    Args:
        problem: its pipeline has the text encoder.
        softs: soft tokens [P, n, d].
        others: soft tokens [n, d] of M prompts.
    """
    base = _states(problem, soft_from_text(problem.pipeline, "a", softs.shape[1])[None])
    ours, theirs = _states(problem, softs) - base, _states(problem, torch.stack(list(others)).to(softs)) - base
    return cosine_similarity(ours[:, None], theirs[None], dim=-1)


def new_ones(problem: Problem, starts: Sequence[Start]) -> list[Start]:
    """Return the starts, of as many tokens each, that explain otherwise than the explanations that are there."""
    if not problem.others or not starts:
        return [*starts]
    alike = _drawn_alike(problem, torch.stack([start.soft for start in starts]))
    least = _SAME if has_error(problem.pipeline) else _SAME_TEXT
    return [start for start, one in zip(starts, alike.tolist(), strict=True) if one <= least]


def penalty(problem: Problem, softs: Tensor) -> Tensor:
    """Return what P prompts [P, n, d] lose because explanations are there already that are like them, [P]."""
    if not problem.others:
        return torch.zeros(len(softs), dtype=torch.float64, device="cpu")
    alike = (_drawn_alike(problem, softs).double().cpu() - _FREE) / (_FULL - _FREE)
    return _PENALTY * alike.clamp(0, 1)


@torch.no_grad()
def ask_again(problem: Problem) -> None:
    """Ask about the explanations that are there what an interrupted run asked; its rows are counted already."""
    if problem.others and not problem.answers and has_error(problem.pipeline):
        problem.answers.extend(_of_others(problem.after(problem.others)))


@torch.no_grad()
def _drawn_alike(problem: Problem, softs: Tensor) -> Tensor:
    """Return by how much P prompts [P, n, d] are like the explanation that is there already and most like them, [P]."""
    if not has_error(problem.pipeline):
        return likeness(problem, softs, problem.others).amax(1)
    if not problem.answers:
        problem.answers.extend(_of_others(problem))
    theirs, ours = torch.cat(problem.answers), _answers(problem, softs)
    cosine = cosine_similarity(ours[:, None], theirs[None], dim=-1).clamp_min(0)
    # How much of what theirs adds ours adds too; the cosine is small where ours adds other things beside it.
    within = (ours @ theirs.T / theirs.square().sum(1).clamp_min(torch.finfo(theirs.dtype).tiny)).clamp(0, 1)
    return (cosine * within).sqrt().amax(1)


def _of_others(problem: Problem) -> list[Tensor]:
    """Return what the denoiser answers to each explanation that is there already."""
    place = problem.pipeline.device
    return [_answers(problem, other[None].to(place, torch.float32)) for other in problem.others]


def _answers(problem: Problem, softs: Tensor) -> Tensor:
    """Return what prompts [P, n, d] add to the denoiser's answer to noise under a neutral prompt, flat."""
    alphas: Tensor = problem.pipeline.scheduler.alphas_cumprod
    place = int(_LEVEL * len(alphas))
    noise = normal(seeded_generator(0, "likeness", 0), _ASKED, *problem.pipeline.latent_shape).to(softs)
    noisy = (1 - float(alphas[place])) ** 0.5 * noise
    softs = torch.cat([soft_from_text(problem.pipeline, "a", softs.shape[1])[None].to(softs), softs])
    answers, each = list[Tensor](), problem.forward_batch // _ASKED
    for batch in (softs[first : first + each] for first in range(0, len(softs), each)):
        text, count = problem.encode_soft(batch.repeat_interleave(_ASKED, 0)), _ASKED * len(batch)
        problem.cost.count(count, gradient=False)
        times = torch.full((count,), place, device=softs.device)
        said = denoiser_output(problem.pipeline, noisy.repeat(len(batch), 1, 1, 1), times, text, problem.calls)
        answers.append(said.reshape(len(batch), -1))
    found = torch.cat(answers)
    return found[1:] - found[:1]


def _states(problem: Problem, softs: Tensor) -> Tensor:
    """Return the text encoder's output of prompts [B, n, d], flat."""
    parts = [softs[first : first + _BATCH] for first in range(0, len(softs), _BATCH)]
    return torch.cat([problem.encode_soft(part).prompt_embeds.float().flatten(1) for part in parts])
