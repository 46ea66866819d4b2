"""By how much pictures show what earlier explanations of a class show, so that a further explanation is another one.

A prompt says what was asked for; a picture also shows what came by chance. A class that answers to yellow things and to
flags is convinced by many random pictures, most of them with something yellow in them, and a description of those that
convince finds yellow again. So a picture counts for less the better the denoiser knows it under the earlier
explanations than under a neutral prompt. The scale runs from pictures of random words to pictures of the earlier
explanation itself.

Source: denoising errors under two prompts as a likelihood ratio, Li et al., "Your Diffusion Model is Secretly a
Zero-Shot Classifier" (arXiv 2303.16203), eq. 6.
"""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.editing.likelihood import denoising_error, has_error
from diffexplain_fast.editing.pictures import as_pixels
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.seeds import normal, seeded_generator
from diffexplain_fast.methods.diffexplainer.screening import soft_from_text
from diffexplain_fast.models.conditioning import Conditioning

_LEVELS = (0.5, 0.7, 0.8, 0.9)
"""Levels of noise at which the denoiser is asked about a picture, once each."""
_OWN, _RANDOM, _WORDS = 8, 16, 5
"""Pictures of an earlier explanation and of random words that make the scale, and words of each of these."""
_HOPE = -3.0
"""Promise, in log-odds of a class, below which a picture is not asked about: it counts as shown already."""
_NEARLY_ALL = 0.9
"""Share of an explanation's pictures that show what it is of."""
_LOST, _SPREADS = 8.0, 3.0
"""What a picture loses that shows what an earlier explanation shows: log-odds of a class, or so many times the spread
of all pictures' promises where the target is no class."""


@torch.no_grad()
def make_scale(problem: Problem) -> None:
    """Ask about pictures of each earlier explanation and about pictures of random words, once for all problems."""
    if problem.scale or not problem.others:
        return
    table = problem.pipeline.word_table().detach().float()
    room = problem.pipeline.max_tokens - len(problem.pipeline.token_ids(problem.prefix))
    words = torch.randint(len(table), (_RANDOM, min(_WORDS, room)), generator=seeded_generator(0, "shown", 0))
    typical = _gains(problem, _drawn(problem.without_guidance(), table[words.to(table.device)]))
    place = problem.pipeline.device
    own = [
        _gains(problem, _drawn(problem, other.to(place, torch.float32).expand(_OWN, -1, -1)))[:, i]
        for i, other in enumerate(problem.others)
    ]
    problem.scale.extend([typical.median(0).values, torch.stack([each.median() for each in own])])


@torch.no_grad()
def shares(problem: Problem, pixels: Tensor, promise: Tensor) -> Tensor:
    """Return by how much pictures [K, 3, H, W] show what is explained already, from 0 to 1, [K] on the CPU.

    Args:
        problem: what is explained; ``make_scale`` was called for it.
        pixels: pictures in 0 to 1.
        promise: of each [K]. Of a class, pictures below a hope count as shown already without being asked about.
    """
    found = torch.ones(len(pixels), dtype=torch.float64, device="cpu")
    asked = (promise.cpu() > _HOPE) if problem.plain_class else torch.ones(len(pixels), dtype=torch.bool, device="cpu")
    if asked.any():
        low, high = problem.scale
        share = (_gains(problem, pixels[asked.to(pixels.device)]) - low) / (high - low)
        share = torch.where(high > low, share, 0.0)  # a denoiser that does not know its own pictures says nothing
        found[asked] = share.clamp(0, 1).amax(1).double()
    return found


@torch.no_grad()
def is_shown(problem: Problem, pictures: Sequence[Image.Image]) -> bool:
    """Return whether nearly all pictures show what the explanation is of that counts as there already.

    Two prompts may be unlike and say the same, where one says other things beside it. Its pictures tell. What came by
    chance is in some of them only.

    Args:
        problem: what is explained, after that explanation.
        pictures: of another explanation.
    """
    if not problem.plain_class or not has_error(problem.pipeline):
        return False
    make_scale(problem)
    pixels = as_pixels(pictures, problem.pipeline.image_size, problem.pipeline.device)
    share = shares(problem, pixels, torch.zeros(len(pixels)))
    return float((share > 0.5).double().mean()) >= _NEARLY_ALL


def lost(problem: Problem, promise: Tensor, share: Tensor) -> Tensor:
    """Return what pictures of a promise [K] lose by their ``shares`` [K]."""
    if problem.plain_class:
        return _LOST * share
    return share * (_SPREADS * promise.std() if len(promise) > 1 else 0.0)


def _drawn(problem: Problem, softs: Tensor) -> Tensor:
    """Draw one picture of each of the soft prompts [K, n, d]."""
    found, each = list[Tensor](), problem.forward_batch
    for first in range(0, len(softs), each):
        batch = softs[first : first + each]
        found.append(problem.images(problem.encode_soft(batch), "shown", [*range(first, first + len(batch))]))
    return torch.cat(found)


def _gains(problem: Problem, pixels: Tensor) -> Tensor:
    """Return by how much the denoiser knows pictures better under each earlier explanation, [K, M] on the CPU."""
    clean = LatentModels(problem.pipeline, one_shape=False).encode(pixels)
    tokens, place = problem.others[0].shape[0], clean.device
    neutral = soft_from_text(problem.pipeline, "a", tokens).to(place, torch.float32)
    texts = [problem.encode_soft(one.to(place, torch.float32)) for one in (neutral, *problem.others)]
    errors = torch.stack([_errors(problem, clean, text) for text in texts], 1).cpu()
    return errors[:, :1] - errors[:, 1:]


def _errors(problem: Problem, clean: Tensor, text: Conditioning) -> Tensor:
    """Return the denoiser's mean error on noisy samples of pictures [K, c, h, w] under one prompt, [K]."""
    noise = normal(seeded_generator(0, "shown noise", 0), len(_LEVELS), *clean.shape[1:]).to(clean)
    found, each = list[Tensor](), problem.forward_batch
    for level, one in zip(_LEVELS, noise, strict=True):
        for batch in (clean[first : first + each] for first in range(0, len(clean), each)):
            problem.cost.count(len(batch), gradient=False)
            levels = torch.full((len(batch),), level, device=clean.device)
            found.append(denoising_error(problem.pipeline, batch, levels, one.expand_as(batch), text, problem.calls))
    return torch.cat(found).reshape(len(_LEVELS), -1).mean(0)
