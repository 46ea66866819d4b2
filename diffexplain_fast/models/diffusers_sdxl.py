"""Stable Diffusion XL: two text encoders side by side, pooled text and image sizes as further conditions.

Source: Podell et al., SDXL (2023), sections 2.1 and 2.2.
"""

import torch
from torch import Tensor

from diffexplain_fast.models.pipeline import Conditioning, Pipeline
from diffexplain_fast.models.transformers_clip import TextStates


class StableDiffusionXL(Pipeline):
    """Adapter of ``StableDiffusionXLPipeline`` (the base model)."""

    encoders = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))

    def _conditioning(self, states: list[TextStates]) -> Conditioning:
        return Conditioning(torch.cat([each.penultimate for each in states], dim=-1), states[-1].pooled)

    def extras(self, conditioning: Conditioning, batch: int) -> dict[str, Tensor]:
        """Return ``time_ids`` [batch, 6]: original size, crop corner (0, 0) and target size, as diffusers' defaults."""
        sizes = [*self.image_size, 0, 0, *self.image_size]
        embeds = conditioning.prompt_embeds
        return {"time_ids": torch.tensor([sizes], dtype=embeds.dtype, device=embeds.device).repeat(batch, 1)}
