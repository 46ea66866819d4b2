"""Activation scores of a soft prompt and of the class-name prompt, on latents that were not optimised on.

Source: the activation score of DEXTER (arXiv 2510.14741, section 4): the share of generated images whose argmax is the
target class. This module adds a Wilson interval, and scores held-out start latents and also training latents, because
the gap between the two shows over-fitting.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.scores import Scores
from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.results.explanation import ActivationScore
from diffexplain_fast.stats.intervals import mean_interval, wilson_interval

_USUAL = 0.95
"""Share of the pictures of the name that the mean output of a regression must exceed."""


class Evaluation(NamedTuple):
    """The scores and pictures of a finished soft prompt.

    Attributes:
        activation: scores by name: "train", "held_out" and, with a class prompt, "class_name".
        pixels: held-out images [n_images, 3, H, W].
        direction: "rise" or "fall" for an output of a regression, None for other targets.
        usual: for an output of a regression, the value that its mean must exceed, None without a class prompt.
        reached: True if the mean exceeds it, None without a class prompt.
    """

    activation: dict[str, ActivationScore]
    pixels: Tensor
    direction: str | None = None
    usual: float | None = None
    reached: bool | None = None

    @property
    def settings(self) -> dict[str, str | float | None]:
        """Return the entries of an explanation's settings."""
        return {} if self.direction is None else {"direction": self.direction, "to_be_beyond": self.usual}


def activation_score(batches: list[Scores], *, numbers: bool = False) -> ActivationScore:
    """Summarise the scores of several batches: the rate of hits with its 95 % Wilson interval, and means.

    Args:
        batches: scores of at least one batch.
        numbers: True for the output of a regression: then the mean has an interval, not the rate.
    """
    logit = torch.cat([batch.logit for batch in batches]).double()
    hits = [batch.hit for batch in batches if batch.hit is not None]
    probabilities = [batch.probability for batch in batches if batch.probability is not None]
    n = len(logit)
    if not hits:
        interval = mean_interval(logit) if numbers else None
        return ActivationScore(n=n, rate=None, interval=interval, mean_logit=float(logit.mean()), mean_probability=None)
    count = int(torch.cat(hits).sum())
    return ActivationScore(
        n=n,
        rate=count / n,
        interval=wilson_interval(count, n),
        mean_logit=float(logit.mean()),
        mean_probability=float(torch.cat(probabilities).double().mean()),
    )


def evaluate(
    problem: Problem,
    soft: Tensor,
    class_prompt: str | None,
    n_score: int,
    n_train: int,
    n_images: int,
    report: Callable[[int, int], None],
) -> Evaluation:
    """Score a finished soft prompt.

    An output of a regression has no rate; it counts as reached if its mean over held-out latents is beyond the 95th
    percentile of the pictures of its name, in the direction of the target.

    Args:
        problem: pipeline, classifier and target of the explanation.
        soft: soft tokens [n, d].
        class_prompt: the prompt of the class-name baseline, None without a class name; cut at the context.
        n_score: number of held-out latents; the baseline uses the same ones, so the two compare in pairs.
        n_train: number of training latents, at most as many as were used.
        n_images: number of held-out images to return, at most ``n_score``.
        report: function that receives the number of images done and of all images.

    Returns:
        The scores and pictures.
    """
    with torch.no_grad():
        explained = problem.encode_soft(soft)
        runs: list[tuple[str, Conditioning, str, int]] = [
            ("held_out", explained, "held_out", n_score),
            ("train", explained, "train", n_train),
        ]
        if class_prompt is not None:
            runs.append(("class_name", problem.pipeline.encode_text([class_prompt], cut=True), "held_out", n_score))
    total, finished = sum(count for *_, count in runs), 0
    activation: dict[str, ActivationScore] = {}
    values: dict[str, Tensor] = {}
    pictures: list[Tensor] = []
    for name, conditioning, stage, count in runs:
        batches = []
        for pixels, scores in problem.batches(conditioning, stage, count):
            batches.append(scores)
            finished += len(pixels)
            report(finished, total)
            if name == "held_out" and sum(map(len, pictures)) < n_images:
                pictures.append(pixels)
        activation[name] = activation_score(batches, numbers=problem.direction is not None)
        values[name] = torch.cat([batch.logit for batch in batches]).double()
    shown = Evaluation(activation, torch.cat(pictures)[:n_images])
    if problem.direction is None:
        return shown
    shown = shown._replace(direction="rise" if problem.direction > 0 else "fall")
    if "class_name" not in values:
        return shown
    sign = 1 if problem.direction > 0 else -1
    usual = (sign * values["class_name"]).quantile(_USUAL)
    return shown._replace(usual=sign * float(usual), reached=bool((sign * values["held_out"]).mean() > usual))


def pictures_of(pixels: Tensor) -> list[Image.Image]:
    """Return pixels [B, 3, H, W] in [0, 1] as pictures with eight bits per channel."""
    levels = pixels.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(picture) for picture in levels]
