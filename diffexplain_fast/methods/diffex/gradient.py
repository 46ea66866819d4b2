"""A counterfactual that no word names: start noise and prompt of a picture's inversion are moved by gradients."""

from typing import NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.editing.ddim import Start
from diffexplain_fast.editing.pictures import as_image
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.errors import NonFiniteError
from diffexplain_fast.methods.diffex.answers import Answers
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.results.effects import Counterfactual
from diffexplain_fast.targets.outputs import PROBABILITIES, SOFTMAX

_RATE = 0.03


class Drift(NamedTuple):
    """How far a picture is moved.

    Attributes:
        iterations: gradient steps at most; it ends at the first picture that flips, which may be that after the last.
        distance: weight of the mean change of a pixel, in units of log-odds.
    """

    iterations: int = 40
    distance: float = 5.0


def log_odds(logits: Tensor, label: int, output: str) -> Tensor:
    """Return the log-odds [B] of a class, of logits [B, C] as a classifier gives them."""
    own = logits[:, label]
    if output not in (SOFTMAX, PROBABILITIES):
        return own
    others = torch.arange(logits.shape[1], device=logits.device) != label
    return own - logits[:, others].logsumexp(1)


def drifted(
    sampler: DifferentiableSampler, classifier: Classifier, answers: Answers, pixels: Tensor, start: Start, drift: Drift
) -> Counterfactual | None:
    """Return a picture near a given one that the classifier no longer answers with the target.

    With G the sampler, the picture is x + G(noise + d, text + t) - G(noise, text): exactly x at the start. Adam lowers

        log-odds of the target + distance mean |change|

    whose gradient does not vanish where the classifier is sure.

    Args:
        sampler: without guidance.
        classifier: adapter from ``models.classifier``.
        answers: of the classifier, for a target that is a class.
        pixels: the picture [1, 3, H, W].
        start: see ``invert_ddim``.
        drift: how far.

    Returns:
        The first picture that flips, or the one that came nearest; None where the classifier does not see the target.

    Raises:
        NonFiniteError: a loss that is no number; names the iteration.

    Source: DiG-IN (CVPR 2024), counterfactuals by gradients through the sampler; here of the start noise too.
    """
    before, label = answers.ask(pixels), answers.label
    if label is None or not bool(before.hit):
        return None
    noise, embeds = (part.clone().requires_grad_() for part in (start.noise, start.text.prompt_embeds))
    optimizer = torch.optim.Adam([noise, embeds], lr=_RATE)

    def sampled() -> Tensor:
        return sampler(prompt_embeds=embeds, latents=noise, pooled_prompt_embeds=start.text.pooled)

    with torch.no_grad():
        lost = pixels - sampled()
    best, least = pixels, float(before.probability)
    for iteration in range(drift.iterations + 1):
        last = iteration == drift.iterations  # what the last step has made is asked about, and not moved any more
        with torch.set_grad_enabled(not last):
            moved = (sampled() + lost).clamp(0, 1)
        now = answers.ask(moved)
        if float(now.probability) < least or not bool(now.hit):
            best, least = moved.detach(), float(now.probability)
        if last or not bool(now.hit):
            break
        response = classifier.respond(moved)
        loss = log_odds(response.logits, label, response.output)[0]
        loss = loss + drift.distance * (moved - pixels).abs().mean()
        if not bool(loss.isfinite()):
            raise NonFiniteError(f"counterfactual: the loss of iteration {iteration} is not finite")
        noise.grad, embeds.grad = torch.autograd.grad(loss, [noise, embeds])
        optimizer.step()
    after = answers.ask(best)
    return Counterfactual(
        as_image(best[0]), (), before.names[0], after.names[0], not bool(after.hit), float(before.probability), least
    )
