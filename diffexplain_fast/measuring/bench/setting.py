"""What all rivals of a run share: the models, and the sampling options."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.sampler import DifferentiableSampler

Images = Callable[[Tensor, Tensor], Tensor]
"""(prompt embeddings [B, L, d], start noise [B, c, h, w]) -> images [B, 3, H, W], about [0, 1]."""


@dataclass(frozen=True)
class Setting:
    """Models and sampling options that all rivals of a run share.

    Attributes:
        unet: frozen diffusers UNet.
        vae: frozen diffusers VAE.
        scheduler: diffusers scheduler.
        steps: denoising steps.
        guidance_scale: at least 1.
        negative: negative prompt embeddings [1, L, d].
        pooled: pooled text [1, p] of every row, for Stable Diffusion XL.
    """

    unet: Any
    vae: Any
    scheduler: Any
    steps: int
    guidance_scale: float
    negative: Tensor
    pooled: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return self.negative.device

    def copies(self) -> tuple[Any, Any]:
        """Return a frozen UNet and VAE to be changed, whose weights lie where the originals' do until they are."""
        return _shared(self.unet), _shared(self.vae)

    def added(self, text: Tensor, size: tuple[int, int]) -> dict[str, Tensor] | None:
        """Return what XL is told beside its text, for uncropped images; None for other models.

        Args:
            text: [B, L, d].
            size: height and width of the images in pixels.
        """
        if self.pooled is None:
            return None
        time_ids = text.new_tensor([[*size, 0, 0, *size]])
        return {"text_embeds": self.pooled.expand(len(text), -1), "time_ids": time_ids.expand(len(text), -1)}

    def sampler(self, **options: Any) -> "Sampled":
        """Return images by our sampler.

        Args:
            **options: of ``DifferentiableSampler``, such as its backend.
        """
        made = DifferentiableSampler(
            unet=self.unet,
            vae=self.vae,
            scheduler=self.scheduler,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance_scale,
            **options,
        )
        return Sampled(self, made)


@dataclass(frozen=True)
class Sampled:
    """Images by our sampler.

    Attributes:
        setting: what is drawn with.
        sampler: what draws; its plan says what is kept.
    """

    setting: Setting
    sampler: DifferentiableSampler

    def __call__(self, embeds: Tensor, latents: Tensor) -> Tensor:
        """Return images [B, 3, H, W] of prompt embeddings [B, L, d] and start noise [B, c, h, w]."""
        negative, pooled = self.setting.negative, self.setting.pooled
        added: dict[str, Any] = {}
        if pooled is not None:
            added = {"pooled_prompt_embeds": pooled.expand(len(embeds), -1), "negative_pooled_prompt_embeds": pooled}
        steady = torch.Generator().manual_seed(0)  # LCM's noise, the same at each call
        return self.sampler(embeds, negative, latents, steady, **added)


def _shared(model: Any) -> Any:
    """A copy of a model whose parameters are its own but lie where the model's do: many copies fit on one card."""
    own = {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in model.parameters()}
    return copy.deepcopy(model, own).eval()
