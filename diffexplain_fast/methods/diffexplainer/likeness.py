"""How alike two prompts are to the denoiser: by what the text encoder says of them, so that no picture is drawn."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.methods.diffexplainer.screening import soft_from_text

_BATCH = 64
_SAME = 0.55
"""Likeness above which two prompts count as one explanation: different words stay below it in every world measured."""
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


def is_new(problem: Problem, soft: Tensor) -> bool:
    """Whether soft tokens [n, d] explain otherwise than the explanations that are there already."""
    return not problem.others or float(likeness(problem, soft[None], problem.others).max()) <= _SAME


def penalty(problem: Problem, softs: Tensor) -> Tensor:
    """Return what P prompts [P, n, d] lose because explanations are there already that are like them, [P]."""
    if not problem.others:
        return torch.zeros(len(softs), dtype=torch.float64, device="cpu")
    alike = likeness(problem, softs, problem.others).amax(1)
    return _PENALTY * alike.clamp_min(0).double().cpu()


def _states(problem: Problem, softs: Tensor) -> Tensor:
    """Return the text encoder's output of prompts [B, n, d], flat."""
    parts = [softs[first : first + _BATCH] for first in range(0, len(softs), _BATCH)]
    return torch.cat([problem.encode_soft(part).prompt_embeds.float().flatten(1) for part in parts])
