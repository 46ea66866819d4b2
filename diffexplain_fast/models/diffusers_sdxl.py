"""Stable Diffusion XL: two text encoders in parallel, with pooled text and image sizes as further conditions.

Source: Podell et al., SDXL (2023), sections 2.1 and 2.2.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.models.call_options import NEGATIVE_SIZES, SIZES
from diffexplain_fast.models.conditioning import Conditioning, Sizes
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.models.transformers_clip import Layer, TextStates
from diffexplain_fast.models.xl import pooled_width


class StableDiffusionXL(Pipeline):
    """Adapter of ``StableDiffusionXLPipeline`` (the base model); arguments as in ``Pipeline``."""

    encoders = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))
    known_options = ("clip_skip", *SIZES, *NEGATIVE_SIZES)

    def __init__(self, parts: object, name: str, call_options: Mapping[str, object] | None = None) -> None:
        super().__init__(parts, name, call_options)
        self.zeros = bool(getattr(getattr(parts, "config", None), "force_zeros_for_empty_prompt", False))
        wanted = pooled_width(self.unet)
        projected = self.text_encoders[-1].config.projection_dim
        if wanted is not None and projected != wanted:
            raise wrong_value("text_encoder_2", f"pooled text of width {wanted}, as the unet reads", projected)

    def _layer(self, clip_skip: int) -> Layer:
        return Layer(1 + clip_skip, normed=False)

    def _conditioning(self, states: list[TextStates]) -> Conditioning:
        embeds = torch.cat([each.hidden for each in states], dim=-1)
        return Conditioning(embeds.to(self.text_encoders[-1].dtype), states[-1].pooled)

    def extras(self, conditioning: Conditioning, batch: int) -> Sizes:
        """Return ``time_ids`` [batch, 6]: original size, crop corner (0, 0) and target size, as diffusers' defaults.

        Sizes in ``call_options`` replace the defaults; negative sizes add ``negative_time_ids`` [batch, 6].
        """
        like = conditioning.prompt_embeds
        sizes = Sizes(time_ids=self._ids(SIZES, like).repeat(batch, 1))
        if NEGATIVE_SIZES[0] in self.call_options:
            sizes["negative_time_ids"] = self._ids(NEGATIVE_SIZES, like).repeat(batch, 1)
        return sizes

    def _ids(self, sizes: tuple[str, ...], like: Tensor) -> Tensor:
        """Return three sizes [1, 6] by name, or diffusers' defaults, in the dtype and on the device of a tensor."""
        defaults, options = (self.image_size, (0, 0), self.image_size), [self.call_options.get(size) for size in sizes]
        pairs = [pair if isinstance(pair, tuple) else default for pair, default in zip(options, defaults, strict=True)]
        return like.new_tensor([[number for pair in pairs for number in pair]])
