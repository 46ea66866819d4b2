"""What every method shares: the generator G(t), the classifier on its images, and seeds that need no stored state."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import normalize

from diffexplain_fast.engine.graphs.function import Graphed
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.errors import NonFiniteError
from diffexplain_fast.evidence.cost import Cost
from diffexplain_fast.evidence.recorded import graphed_head, graphed_text
from diffexplain_fast.evidence.scores import Scores, scores_of
from diffexplain_fast.evidence.seeds import normal, seeded_generator
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.targets import ClassLogit, ClassProbability, Target
from diffexplain_fast.targets.classes import sole_output
from diffexplain_fast.targets.outputs import REGRESSION, SOFTMAX

FORWARD_BATCH = 8
"""Images of one forward-only call: enough to keep a processor busy, few enough for the memory of one training step."""
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
        seed: every random number of the explanation follows from it.
        text: the text encoder on soft tokens, from ``graphed_text``, to share its recording with other problems of the
            same pipeline and prefix; None for one of its own.
        steps: denoising steps of a picture, None for the sampler's own number.
        cost: counts what the pictures cost.
        others: soft tokens [n, d] of explanations of the same target that are there already; another one is wanted.
    """

    pipeline: Pipeline
    sampler: DifferentiableSampler
    classifier: Classifier
    target: Target
    prefix: str
    seed: int
    text: Graphed | None = None
    steps: int | None = None
    cost: Cost = field(default_factory=Cost)
    others: Sequence[Tensor] = ()

    def with_steps(self, steps: int) -> "Problem":
        """Return the same problem with pictures of that many denoising steps; the cost is counted together."""
        return replace(self, text=self._text, steps=steps)

    def after(self, others: Sequence[Tensor]) -> "Problem":
        """Return the same problem, with nothing spent yet, where these explanations are there already."""
        return replace(self, text=self._text, cost=Cost(), others=tuple(others))

    @cached_property
    def _negative(self) -> Conditioning | None:
        with torch.no_grad():
            return None if self.sampler.guidance_scale == 1.0 else self.pipeline.unconditional()

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
        """The vocabulary's embeddings [V, d], every row of length 1."""
        return normalize(self.pipeline.word_table().detach().float(), dim=-1)

    @cached_property
    def _text(self) -> Graphed:
        return self.text or graphed_text(self.pipeline, self.prefix, self.sampler.records_calls)

    @cached_property
    def _head(self) -> Graphed:
        return graphed_head(self.classifier, self.target, self.sampler.records_calls, has_label=self.label is not None)

    def record(self) -> dict[str, str]:
        """Return what text encoder and classifier did with CUDA graphs, for a result's settings."""
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
        size, device = len(indices), self.pipeline.device
        noise = [normal(seeded_generator(self.seed, stage, i), *self.pipeline.latent_shape) for i in indices]
        embeds = conditioning.prompt_embeds.expand(size, -1, -1)
        pooled = None if conditioning.pooled is None else conditioning.pooled.expand(size, -1)
        negative = self._negative
        steps = self.sampler.num_inference_steps if self.steps is None else self.steps
        rows = size * steps * (1 if negative is None else 2)
        self.cost.count(rows, gradient=torch.is_grad_enabled() and embeds.requires_grad)
        pixels = self.sampler(
            embeds,
            None if negative is None else negative.prompt_embeds,
            latents=torch.stack(noise).to(device, embeds.dtype),
            generator=seeded_generator(self.seed, f"{stage}/steps", indices[0]),
            pooled_prompt_embeds=pooled,
            negative_pooled_prompt_embeds=None if negative is None else negative.pooled,
            num_inference_steps=self.steps,
            **self.pipeline.extras(conditioning, size),
        )
        return pixels.clamp(0, 1)

    def scores(self, pixels: Tensor) -> Scores:
        """Put pixels [B, 3, H, W] through the classifier."""
        said = self._head(pixels)  # first, for the kind of output may be found out in it
        return scores_of(said, self.label, self.classifier.output or SOFTMAX)

    @cached_property
    def direction(self) -> float | None:
        """Weight of the one output that a regression's target reads, below 0 where it is to fall; else None."""
        sole = sole_output(self.target) if self.classifier.output == REGRESSION else None
        return None if sole is None else sole[0]

    @cached_property
    def label(self) -> int | None:
        """The class that the target is about, or the one output of a regression; None without any."""
        if self.classifier.output != REGRESSION:
            label = self.target.label
            return None if label is None else self.classifier.label_index(label)
        sole = sole_output(self.target)
        return None if sole is None else sole[1]

    @property
    def has_rate(self) -> bool:
        """Whether pictures can be hits: the target has a class."""
        return self.label is not None and self.classifier.output != REGRESSION

    @property
    def plain_class(self) -> bool:
        """Whether the target is one class and nothing else."""
        return self.has_rate and isinstance(self.target, ClassLogit | ClassProbability)

    def merit(self, scores: Scores) -> Tensor:
        """Return what ranks prompts [B]: the probability of a plain class, else the target score.

        A mean of log-probabilities would be ruled by the worst image: a word that often draws the class and sometimes
        fails outright would rank behind a word that never draws it.
        """
        return scores.probability if self.plain_class and scores.probability is not None else scores.score

    def promise(self, scores: Scores) -> Tensor:
        """Return what compares prompts that may all fail [B]: the log-odds of a plain class, else the target score.

        Probabilities near zero are all the same; log-odds tell prompts apart there too. Beyond a certainty that
        convinces they count no more, else a prompt with some overwhelming pictures and some failures would come before
        a prompt whose pictures all convince.
        """
        if not self.plain_class or scores.probability is None:
            return scores.score
        probability = scores.probability.double().clamp(_HOPELESS, _CONVINCING)
        return (probability.log() - (1 - probability).log()).float()

    @torch.no_grad()
    def batches(self, conditioning: Conditioning, stage: str, count: int) -> Iterator[tuple[Tensor, Scores]]:
        """Generate and score latents 0 to count - 1 of a stage, a batch at a time.

        Raises:
            NonFiniteError: an image or a score is NaN or infinite.
        """
        for first in range(0, count, FORWARD_BATCH):
            indices = range(first, min(first + FORWARD_BATCH, count))
            pixels = self.images(conditioning, stage, indices)
            scores = self.scores(pixels)
            if not (pixels.isfinite().all() and scores.score.isfinite().all()):
                raise NonFiniteError(
                    f"scores: wanted finite images and scores for {stage} latents {indices}, got NaN or inf"
                )
            yield pixels, scores
