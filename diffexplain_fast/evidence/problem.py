"""The problem that methods solve: a generator G(t), a classifier of its images, and seeds without stored state."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import normalize

from diffexplain_fast.engine.graphs.function import Graphed
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.engine.single import SingleCalls
from diffexplain_fast.errors import NonFiniteError
from diffexplain_fast.evidence.cost import Cost
from diffexplain_fast.evidence.drawing import Drawing
from diffexplain_fast.evidence.recorded import graphed_head, graphed_text
from diffexplain_fast.evidence.scores import Scores, scores_of
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.runs.spending import Limit
from diffexplain_fast.targets import ClassLogit, ClassProbability, Target
from diffexplain_fast.targets.classes import sole_output
from diffexplain_fast.targets.outputs import REGRESSION, SOFTMAX

_LEAST_BATCH, _MOST_BATCH, _PLACES = 8, 16, 4096
"""Images per forward-only call, at least and at most, and places of their latents together between these two."""
_HOPELESS, _CONVINCING = 1e-7, 0.95
"""Probabilities below and above which pictures of a prompt promise no less and no more."""


@dataclass
class Problem:
    """Pipeline, sampler, classifier and bound target of one explanation.

    Attributes:
        pipeline: adapter from models.pipeline.
        sampler: differentiable sampler over the same modules.
        classifier: adapter from models.classifier.
        target: bound target.
        prefix: real words before the soft tokens.
        seed: source of every random number of the explanation.
        text: the text encoder for soft tokens, from ``graphed_text``, whose recording problems of the same pipeline and
            prefix can share; None to create one.
        steps: denoising steps of a picture, None for the sampler's own number.
        guided: whether pictures have the sampler's guidance.
        cost: counts what the pictures cost.
        others: soft tokens [n, d] of explanations of the same target that are there already; another one is wanted.
        answers: what the denoiser answers to each of ``others``, empty until somebody asks; problems that differ in
            steps and guidance only share it.
        scale: how well the denoiser knows random pictures and their own under ``others``, empty and shared in the same
            way.
        limited: whether memory has a limit of bytes that the caller gave.
    """

    pipeline: Pipeline
    sampler: DifferentiableSampler
    classifier: Classifier
    target: Target
    prefix: str
    seed: int
    text: Graphed | None = None
    steps: int | None = None
    guided: bool = True
    cost: Cost = field(default_factory=Cost)
    others: Sequence[Tensor] = ()
    answers: list[Tensor] = field(default_factory=list)
    scale: list[Tensor] = field(default_factory=list)
    limited: bool = False

    @cached_property
    def calls(self) -> SingleCalls:
        """The sampler's denoiser and decoder, one call at a time."""
        return self.sampler.single_calls(closely=False)

    @property
    def forward_batch(self) -> int:
        """Images per forward-only call.

        Enough to keep a processor busy, and few where each takes much memory, or where a limit is looked at after each.
        """
        if self.cost.limit != Limit():
            return _LEAST_BATCH
        _, height, width = self.pipeline.latent_shape
        return min(max(_LEAST_BATCH, _PLACES // (height * width)), _MOST_BATCH)

    def with_steps(self, steps: int) -> "Problem":
        """Return the same problem with pictures of that many denoising steps; the cost is counted together."""
        return replace(self, text=self._text, steps=steps)

    def without_guidance(self) -> "Problem":
        """Return the same problem with pictures without guidance, of half the rows; the cost is counted together."""
        return replace(self, text=self._text, guided=False)

    def after(self, others: Sequence[Tensor], earlier: tuple[int, float] = (0, 0.0)) -> "Problem":
        """Return the same problem where these explanations are there already.

        Args:
            others: soft tokens [n, d] of each of them.
            earlier: rows and seconds that they took; a budget is for all explanations of a call.
        """
        cost = Cost(earlier=earlier, limit=self.cost.limit)
        return replace(self, text=self._text, cost=cost, others=tuple(others), answers=[], scale=[])

    @cached_property
    def _drawing(self) -> Drawing:
        return Drawing(self.pipeline, self.sampler, self.seed)

    @property
    def _negative(self) -> Conditioning | None:
        """The unconditional rows, under the name that they had before ``Drawing`` was split off."""
        return self._drawing.negative

    @cached_property
    def embedding_scale(self) -> float:
        """Root mean square of the vocabulary's embeddings."""
        return float(self.pipeline.word_table().detach().double().square().mean().sqrt())

    @cached_property
    def longest_embedding(self) -> float:
        """Largest length of a vocabulary embedding, in units of ``embedding_scale``."""
        return float(self.pipeline.word_table().detach().double().norm(dim=-1).max()) / self.embedding_scale

    @cached_property
    def vocabulary(self) -> Tensor:
        """The vocabulary's embeddings [V, d], with rows of length 1."""
        return normalize(self.pipeline.word_table().detach().float(), dim=-1)

    @cached_property
    def _text(self) -> Graphed:
        return self.text or graphed_text(self.pipeline, self.prefix, self.sampler.records_calls)

    @cached_property
    def _head(self) -> Graphed:
        return graphed_head(self.classifier, self.target, self.sampler.records_calls, has_label=self.label is not None)

    def record(self) -> dict[str, str]:
        """Return for a result's settings whether text encoder and classifier were recorded into CUDA graphs."""
        return {"text_encoder": self._text.state, "classifier": self._head.state}

    def encode_soft(self, soft: Tensor) -> Conditioning:
        """Condition on the prefix and soft tokens [n, d] or [B, n, d]."""
        embeds, *pooled = self._text(soft)
        return Conditioning(embeds, pooled[0] if pooled else None)

    def images(self, conditioning: Conditioning, stage: str, indices: Sequence[int]) -> Tensor:
        """Generate one image for each numbered start latent of a stage: x = D(sampler(z_T, tau(t))), clamped.

        Args:
            conditioning: prompt embeddings of 1 or B prompts.
            stage: "train", "validation", "held_out" or "screen".
            indices: B numbers of start latents.

        Returns:
            Pixels [B, 3, H, W] in [0, 1], differentiable in the conditioning.
        """
        steps = self.sampler.num_inference_steps if self.steps is None else self.steps
        rows = len(indices) * steps * (2 if self.guided and self.sampler.guidance_scale != 1.0 else 1)
        recorded = torch.is_grad_enabled() and conditioning.prompt_embeds.requires_grad
        self.cost.count(rows, gradient=recorded)
        return self._drawing.images(conditioning, stage, indices, self.steps, self.guided)

    @torch.no_grad()
    def check_room(self, n_tokens: int, pictures: int) -> None:
        """Refuse the caller's limit of bytes where no gradient of pictures fits into it, without drawing any.

        The plan that is made for it serves the calls that follow.

        Args:
            n_tokens: soft tokens of their prompts.
            pictures: of one call.

        Raises:
            ValueError: they do not fit; the message says how many bytes are needed at least.
        """
        if self.limited:
            text = self.pipeline.encode_soft(self.pipeline.word_table()[:n_tokens], prefix=self.prefix)
            self._drawing.planned_time(text, pictures, self.steps)

    def scores(self, pixels: Tensor) -> Scores:
        """Return the scores of pixels [B, 3, H, W] by the classifier."""
        said = self._head(pixels)  # first, for the kind of output may be found out in it
        return scores_of(said, self.label, self.classifier.output or SOFTMAX)

    @cached_property
    def direction(self) -> float | None:
        """Weight of the output that a regression's target reads, negative to lower it; None for other targets."""
        sole = sole_output(self.target) if self.classifier.output == REGRESSION else None
        return None if sole is None else sole[0]

    @cached_property
    def label(self) -> int | None:
        """The class of the target, or the output of a regression; None for other targets."""
        if self.classifier.output != REGRESSION:
            label = self.target.label
            return None if label is None else self.classifier.label_index(label)
        sole = sole_output(self.target)
        return None if sole is None else sole[1]

    @property
    def has_rate(self) -> bool:
        """True if the target has a class, so that pictures can be hits."""
        return self.label is not None and self.classifier.output != REGRESSION

    @property
    def plain_class(self) -> bool:
        """True if the target is a single class."""
        return self.has_rate and isinstance(self.target, ClassLogit | ClassProbability)

    def merit(self, scores: Scores) -> Tensor:
        """Return the numbers [B] that rank prompts: the probability of a plain class, or else the target score.

        The worst image would dominate a mean of log-probabilities: a word that often draws the class and sometimes
        fails completely would rank behind a word that never draws it.
        """
        plain = scores.probability if self.plain_class else None
        return _nan_if_unknown(scores.score if plain is None else plain, scores)

    def promise(self, scores: Scores) -> Tensor:
        """Return what compares prompts that may all fail [B]: the log-odds of a plain class, else the target score.

        Probabilities near zero are all the same; log-odds tell prompts apart there too. Beyond a certainty that
        convinces they count no more, else a prompt with some overwhelming pictures and some failures would come before
        a prompt whose pictures all convince.
        """
        if not self.plain_class or scores.probability is None:
            return _nan_if_unknown(scores.score, scores)
        probability = scores.probability.double().clamp(_HOPELESS, _CONVINCING)
        return (probability.log() - (1 - probability).log()).float()

    @torch.no_grad()
    def batches(self, conditioning: Conditioning, stage: str, latents: int | range) -> Iterator[tuple[Tensor, Scores]]:
        """Generate and score latents of a stage, a batch at a time.

        Args:
            conditioning: of one prompt.
            stage: as in ``images``.
            latents: numbers of start latents, or how many of them from 0.

        Raises:
            NonFiniteError: an image, a score, or the logit or probability of the target's class is NaN or infinite.
        """
        every = range(latents) if isinstance(latents, int) else latents
        for first in range(0, len(every), self.forward_batch):
            indices = every[first : first + self.forward_batch]
            pixels = self.images(conditioning, stage, indices)
            scores = self.scores(pixels)
            numbers = pixels, scores.score, scores.logit, scores.probability
            if not all(part.isfinite().all() for part in numbers if part is not None):
                raise NonFiniteError(
                    f"scores: wanted finite images, answers and scores for {stage} latents {indices}, got NaN or inf"
                )
            yield pixels, scores


def _nan_if_unknown(values: Tensor, scores: Scores) -> Tensor:
    """Return values [B], and NaN for images whose answer is NaN, so that nothing is ranked by them."""
    return values.where(scores.known | ~values.isfinite(), math.nan)
