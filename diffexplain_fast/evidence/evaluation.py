"""Activation scores of a soft prompt and of the class-name prompt, on latents that were not optimised on.

Source: the activation score of DEXTER (arXiv 2510.14741, section 4): the share of generated images whose argmax is the
target class. This module adds a Wilson interval, and scores held-out start latents and also training latents, because
the gap between the two shows over-fitting.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.scores import Scores
from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.results.explanation import ActivationScore
from diffexplain_fast.results.pictures import Answer, Picture
from diffexplain_fast.stats.intervals import mean_interval, wilson_interval

_USUAL = 0.95
"""Share of the pictures of the name that the mean output of a regression must exceed."""
_MOST_FAILURES = 8
"""Number of failures that are shown beside the first pictures; their share is in the scores."""


class Evaluation(NamedTuple):
    """The scores and pictures of a finished soft prompt.

    Attributes:
        activation: scores by name: "train", "held_out" and, with a class prompt, "class_name".
        pictures: pictures with the classifier's answers: "held_out", "failures" and, with a class prompt, "class_name".
        direction: "rise" or "fall" for an output of a regression, None for other targets.
        usual: for an output of a regression, the value that its mean must exceed, None without a class prompt.
        reached: True if the mean exceeds it, None without a class prompt.
    """

    activation: dict[str, ActivationScore]
    pictures: dict[str, list[Picture]]
    direction: str | None = None
    usual: float | None = None
    reached: bool | None = None

    @property
    def settings(self) -> dict[str, str | float | None]:
        """Return the entries of an explanation's settings."""
        return {} if self.direction is None else {"direction": self.direction, "to_be_beyond": self.usual}


def activation_score(batches: list[Scores], *, numbers: bool = False, alone: bool = True) -> ActivationScore:
    """Summarise the scores of several batches: the rate of hits with its 95 % Wilson interval, and means.

    Args:
        batches: scores of at least one batch.
        numbers: True for the output of a regression: then the mean has an interval, not the rate.
        alone: True where the target is one class or one output by itself, False where its score is another number.
    """
    logit = torch.cat([batch.logit for batch in batches]).double()
    hits = [batch.hit for batch in batches if batch.hit is not None]
    probabilities = [batch.probability for batch in batches if batch.probability is not None]
    n, mean = len(logit), float(logit.mean())
    score = None if alone else float(torch.cat([batch.score for batch in batches]).double().mean())
    if not hits:
        interval = mean_interval(logit) if numbers else None
        return ActivationScore(n, None, interval, mean, mean_probability=None, mean_score=score)
    count = int(torch.cat(hits).sum())
    return ActivationScore(
        n=n,
        rate=count / n,
        interval=wilson_interval(count, n),
        mean_logit=mean,
        mean_probability=float(torch.cat(probabilities).double().mean()),
        mean_score=score,
    )


def evaluate(
    problem: Problem,
    soft: Tensor,
    class_prompt: str | None,
    n_score: int,
    train: range,
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
        train: numbers of the training latents that the prompt was tuned on; at most the first ``n_score`` are scored.
        n_images: number of held-out images to return, at most ``n_score``, and of images of the class name.
        report: function that receives the number of images done and of all images.

    Returns:
        The scores and pictures.
    """
    with torch.no_grad():
        explained = problem.encode_soft(soft)
        runs: list[tuple[str, Conditioning, str, range]] = [
            ("held_out", explained, "held_out", range(n_score)),
            ("train", explained, "train", train[:n_score]),
        ]
        if class_prompt is not None:
            runs.append(
                ("class_name", problem.pipeline.encode_text([class_prompt], cut=True), "held_out", range(n_score))
            )
    total, finished = sum(len(latents) for *_, latents in runs), 0
    activation: dict[str, ActivationScore] = {}
    values: dict[str, Tensor] = {}
    pictures: dict[str, list[Picture]] = {}
    for name, conditioning, stage, latents in runs:
        batches, first = [], 0
        for pixels, scores in problem.batches(conditioning, stage, latents):
            batches.append(scores)
            finished += len(pixels)
            report(finished, total)
            if stage == "held_out":
                _add_pictures(pictures, name, first, pixels, scores, n_images, problem.classifier.label_name)
            first += len(pixels)
        numbers = problem.direction is not None
        activation[name] = activation_score(batches, numbers=numbers, alone=numbers or problem.plain_class)
        values[name] = torch.cat([batch.logit for batch in batches]).double()
    shown = Evaluation(activation, pictures)
    if problem.direction is None:
        return shown
    shown = shown._replace(direction="rise" if problem.direction > 0 else "fall")
    if "class_name" not in values:
        return shown
    sign = 1 if problem.direction > 0 else -1
    usual = (sign * values["class_name"]).quantile(_USUAL)
    return shown._replace(usual=sign * float(usual), reached=bool((sign * values["held_out"]).mean() > usual))


def _add_pictures(
    shown: dict[str, list[Picture]],
    name: str,
    first: int,
    pixels: Tensor,
    scores: Scores,
    count: int,
    name_class: Callable[[int], str],
) -> None:
    """Add a batch of pictures to those that are shown.

    Args:
        shown: pictures by group, extended here: the first ``count`` of each prompt under its name, and under "failures"
            the first later pictures of "held_out" that are not recognised as the target class.
        name: "held_out" or "class_name".
        first: number of the first picture's start latent.
        pixels: [B, 3, H, W] in [0, 1].
        scores: scores of these pictures.
        count: number of pictures to show.
        name_class: function from the index of a class to its label.
    """
    group, failures = shown.setdefault(name, []), shown.setdefault("failures", [])
    kept = min(max(count - first, 0), len(pixels))
    group += _pictures(range(kept), first, pixels, scores, name_class)
    if name == "held_out" and scores.hit is not None:
        missed = [i for i in range(kept, len(pixels)) if not scores.hit[i]]
        failures += _pictures(missed[: _MOST_FAILURES - len(failures)], first, pixels, scores, name_class)


def _pictures(
    places: Sequence[int], first: int, pixels: Tensor, scores: Scores, name_class: Callable[[int], str]
) -> list[Picture]:
    if not places:
        return []
    images = pictures_of(pixels[list(places)])
    return [Picture(image, _answer(i, first, scores, name_class)) for i, image in zip(places, images, strict=True)]


def _answer(i: int, first: int, scores: Scores, name_class: Callable[[int], str]) -> Answer:
    return Answer(
        latent=first + i,
        logit=float(scores.logit[i]),
        probability=None if scores.probability is None else float(scores.probability[i]),
        hit=None if scores.hit is None else bool(scores.hit[i]),
        label=None if scores.answer is None else name_class(int(scores.answer[i])),
    )


def pictures_of(pixels: Tensor) -> list[Image.Image]:
    """Return pixels [B, 3, H, W] in [0, 1] as pictures with eight bits per channel."""
    levels = pixels.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(picture) for picture in levels]
