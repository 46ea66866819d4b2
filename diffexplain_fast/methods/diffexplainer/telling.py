"""Words that tell the denoiser most about convincing pictures: what these show, for a vocabulary of any size.

A word fits a picture where the denoiser's error on noisy samples of the picture falls when the caption says the word.
It is asked in two stages. The gradient of the error with respect to the text of a neutral caption says for all words at
once by how much each would lower it, to the first order, so that thousands of words cost a few rows. For the words
that promise most, the error itself is computed, on the same noisy samples.

Source: Li, Prabhudesai, Duggal, Brown, Pathak, "Your Diffusion Model is Secretly a Zero-Shot Classifier"
(arXiv 2303.16203), eq. 5, with shared noise as in section 3.3.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.editing.likelihood import denoising_error
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.seeds import normal, seeded_generator, uniform
from diffexplain_fast.methods.diffexplainer.budget import NAMING
from diffexplain_fast.methods.diffexplainer.kept import Kept
from diffexplain_fast.methods.diffexplainer.screening import soft_from_text, with_last
from diffexplain_fast.methods.diffexplainer.vocabulary import whole_words
from diffexplain_fast.models.conditioning import Conditioning

NAME = "naming"
"""Stage of the latents, and first part of keys."""
PICTURES, TOLD = 8, 8
"""Pictures of the prompt that are drawn, of which those that convince are asked about, and words that are returned."""
_GRADIENTS, _ENCODED = 16, 64
"""Noisy samples behind the first-order estimate, and texts that are encoded at a time."""
_PRESELECTED, _BETTER, _FEW, _MORE = 32, 12, 4, 8
"""Words whose error is computed and those that go on; noisy samples of each word, and further ones of those."""
_NOISIEST, _CLEAREST = 0.97, 0.85
"""Levels of noise between which a word tells most: below them the sample shows by itself what the word would say."""


class _Samples:
    """Noisy samples of pictures; every caption is asked about the same ones."""

    def __init__(self, problem: Problem, clean: Tensor) -> None:
        generator = seeded_generator(problem.seed, f"{NAME}/noise", 0)
        rows = [i % len(clean) for i in range(max(_FEW + _MORE, _GRADIENTS))]
        self.problem, self.clean = problem, clean[rows]
        self.levels = _CLEAREST + (_NOISIEST - _CLEAREST) * uniform(generator, len(rows))
        self.noise = normal(generator, *self.clean.shape).to(clean)

    def errors(self, soft: Tensor, first: int, count: int) -> Tensor:
        """Return the denoiser's error [count] under soft tokens [n, d], on samples from ``first`` on."""
        text, parts, each = self.problem.encode_soft(soft), [], self.problem.forward_batch
        self.problem.cost.count(count, gradient=False)
        for start in range(first, first + count, each):
            rows = slice(start, min(start + each, first + count))
            given = self.clean[rows], self.levels[rows], self.noise[rows]
            parts.append(denoising_error(self.problem.pipeline, *given, text, self.problem.calls))
        return torch.cat(parts)

    @torch.enable_grad()
    def slope(self, soft: Tensor) -> tuple[Tensor, ...]:
        """Return the gradient of the mean error with respect to each part of the encoded text of soft tokens [n, d]."""
        text = self.problem.encode_soft(soft)
        pooled = None if text.pooled is None else text.pooled.detach().requires_grad_()
        text = Conditioning(text.prompt_embeds.detach().requires_grad_(), pooled)
        parts = _parts(text)
        total, each = [torch.zeros_like(part) for part in parts], self.problem.forward_batch
        for start in range(0, _GRADIENTS, each):
            rows = slice(start, min(start + each, _GRADIENTS))
            given = self.clean[rows], self.levels[rows], self.noise[rows]
            self.problem.cost.count(len(given[0]), gradient=True)
            error = denoising_error(self.problem.pipeline, *given, text, self.problem.calls).sum() / _GRADIENTS
            total = [sum_ + part for sum_, part in zip(total, torch.autograd.grad(error, parts), strict=True)]
        return tuple(total)


def telling_words(
    problem: Problem, name: str, soft: Tensor, kept: Kept, of_most: bool = False
) -> tuple[list[str], list[str]]:
    """Return the words under which the denoiser knows convincing pictures best, and all others that it was asked about.

    Args:
        problem: what is explained; its target is a class, and its pipeline has an error (``has_error``).
        name: of the prompt, under which the words are kept.
        soft: the prompt's soft tokens [n, d].
        kept: results of an interrupted run; extended here.
        of_most: leave out the third of the samples that a word fits worst: these pictures may show something else.

    Returns:
        At most ``TOLD`` words, the best first, and the others by what they promised to the first order; none where
        hardly any picture of the prompt convinces.

    Raises:
        NonFiniteError: an error of the denoiser is NaN or infinite.
    """
    names, key = problem.pipeline.words(), [NAME, name, *["most"] * of_most]
    told = kept.scored(key, TOLD + _PRESELECTED, lambda: _told(problem, soft, of_most))
    best, asked = ([names[int(place)] for place in part if place >= 0] for part in (told[:TOLD], told[TOLD:]))
    return best, [word for word in asked if word not in best]


@torch.no_grad()
def _told(problem: Problem, soft: Tensor, of_most: bool) -> Tensor:
    """Return the places of words in the vocabulary, of the best [TOLD] and of all [_PRESELECTED]; -1 after the last."""
    told = torch.full((TOLD + _PRESELECTED,), -1.0, dtype=torch.float64, device="cpu")
    pixels = problem.images(problem.encode_soft(soft), NAME, [*range(PICTURES)])
    convincing = problem.promise(problem.scores(pixels)) > 0
    if int(convincing.sum()) < PICTURES // 2 or problem.cost.leaves_out(NAMING):
        return told
    samples = _Samples(problem, LatentModels(problem.pipeline, one_shape=False).encode(pixels[convincing]))
    neutral = soft_from_text(problem.pipeline, "a", len(soft))
    chosen = _preselected(samples, soft, neutral)
    softs = {place: with_last(problem, neutral, [place])[0] for place in chosen}
    usual, gains = samples.errors(neutral, 0, _FEW + _MORE), dict[int, Tensor]()
    for first, count, among in ((0, _FEW, _PRESELECTED), (_FEW, _MORE, _BETTER)):
        for place in sorted(gains, key=lambda place: -_mean(gains[place], of_most))[:among] if gains else chosen:
            if problem.cost.leaves_out(NAMING):
                break
            gain = usual[first : first + count] - samples.errors(softs[place], first, count)
            gains[place] = torch.cat([gains[place], gain]) if place in gains else gain
    known = max(map(len, gains.values()), default=0)
    means = {place: _mean(gain, of_most) for place, gain in gains.items() if len(gain) == known}
    best = [place for place in sorted(means, key=lambda place: -means[place]) if means[place] > 0][:TOLD]
    told[[*range(len(best)), *range(TOLD, TOLD + len(chosen))]] = torch.tensor([*best, *chosen]).to(told)
    return told


def _preselected(samples: _Samples, soft: Tensor, neutral: Tensor) -> list[int]:
    """Return places of words: by turns those that lower the error to the first order, and those nearest to a token."""
    problem, slopes, lowering = samples.problem, samples.slope(neutral), list[Tensor]()
    whole = whole_words(problem.pipeline)
    for first in range(0, len(whole), _ENCODED):
        text = problem.encode_soft(with_last(problem, neutral, whole[first : first + _ENCODED]))
        pairs = zip(_parts(text), slopes, strict=True)
        lowering.append(
            torch.stack([-part.float().flatten(1) @ slope.float().flatten() for part, slope in pairs]).sum(0)
        )
    near = (normalize(soft.float(), dim=-1) @ problem.vocabulary[whole].T).amax(0)
    orders = [score.argsort(descending=True, stable=True).tolist() for score in (torch.cat(lowering), near)]
    return [*dict.fromkeys(whole[i] for both in zip(*orders, strict=True) for i in both)][:_PRESELECTED]


def _mean(gains: Tensor, of_most: bool) -> float:
    return float((gains.sort().values[len(gains) // 3 :] if of_most else gains).mean())


def _parts(text: Conditioning) -> list[Tensor]:
    return [text.prompt_embeds, *([] if text.pooled is None else [text.pooled])]
