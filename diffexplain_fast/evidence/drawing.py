"""Pictures of prompts: every picture follows from a prompt, a seed, a stage and a number."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.evidence.seeds import normal, seeded_generator
from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.models.pipeline import Pipeline


@dataclass
class Drawing:
    """A pipeline, a sampler over its modules, and the seed of all start latents.

    Attributes:
        pipeline: adapter from models.pipeline.
        sampler: differentiable sampler over the same modules.
        seed: every start latent follows from it.
    """

    pipeline: Pipeline
    sampler: DifferentiableSampler
    seed: int

    @cached_property
    def negative(self) -> Conditioning | None:
        """The unconditional rows; None without guidance."""
        with torch.no_grad():
            return None if self.sampler.guidance_scale == 1.0 else self.pipeline.unconditional()

    def images(
        self,
        conditioning: Conditioning,
        stage: str,
        indices: Sequence[int],
        steps: int | None = None,
        guided: bool = True,
    ) -> Tensor:
        """Generate one image for each numbered start latent of a stage: x = D(sampler(z_T, tau(t))), clamped.

        Args:
            conditioning: prompt embeddings of 1 or B prompts.
            stage: what the images are for; stages share no start latents.
            indices: B numbers of start latents.
            steps: denoising steps; None for the sampler's own number.
            guided: with the sampler's guidance; False for none.

        Returns:
            Pixels [B, 3, H, W] in [0, 1], differentiable in the conditioning.
        """
        device, negative = self.pipeline.device, self.negative if guided else None
        noise = [normal(seeded_generator(self.seed, stage, i), *self.pipeline.latent_shape) for i in indices]
        embeds, pooled = _rows(conditioning, len(indices))
        pixels = self.sampler(
            embeds,
            None if negative is None else negative.prompt_embeds,
            latents=torch.stack(noise).to(device, embeds.dtype),
            generator=seeded_generator(self.seed, f"{stage}/steps", indices[0]),
            pooled_prompt_embeds=pooled,
            negative_pooled_prompt_embeds=None if negative is None else negative.pooled,
            num_inference_steps=steps,
            guidance_scale=None if guided else 1.0,
            **self.pipeline.extras(conditioning, len(indices)),
        )
        return pixels.clamp(0, 1)

    @torch.no_grad()
    def planned_time(self, conditioning: Conditioning, size: int, steps: int | None = None) -> float | None:
        """Return the FLOP of ``size`` images with a gradient under the sampler's memory limit; None without a plan.

        Args:
            conditioning: prompt embeddings of 1 or ``size`` prompts.
            size: images at once.
            steps: denoising steps; None for the sampler's own number.

        Raises:
            ValueError: so many images do not fit into the limit.
        """
        (embeds, pooled), negative = _rows(conditioning, size), self.negative
        plan = self.sampler.plan_for(
            embeds,
            None if negative is None else negative.prompt_embeds,
            embeds.new_zeros(size, *self.pipeline.latent_shape),
            pooled_prompt_embeds=pooled,
            negative_pooled_prompt_embeds=None if negative is None else negative.pooled,
            num_inference_steps=steps,
            **self.pipeline.extras(conditioning, size),
        )
        return None if plan is None else plan.time


def _rows(conditioning: Conditioning, size: int) -> Conditioning:
    """Return a row for each of ``size`` images."""
    embeds, pooled = conditioning
    return Conditioning(embeds.expand(size, -1, -1), None if pooled is None else pooled.expand(size, -1))
