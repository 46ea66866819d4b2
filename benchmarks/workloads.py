"""What an iteration is measured on: models, prompt, latents and target, of a public configuration or the tiny world."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

import diffexplain_fast as dx
from benchmarks.rivals import Setting

_SIGNAL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}


@dataclass(frozen=True)
class Workload:
    """One kind of iteration.

    Attributes:
        setting: models and sampling options.
        embeds: soft tokens [n, d] (or embeddings) that are optimised -> prompt embeddings [B, L, d].
        start: where the optimisation starts.
        latents: noise of image number i, [B, c, h, w].
        loss: images -> scalar.
    """

    setting: Setting
    embeds: Callable[[Tensor], Tensor]
    start: Tensor
    latents: Callable[[int], Tensor]
    loss: Callable[[Tensor], Tensor]

    def with_steps(self, steps: int) -> "Workload":
        """Return the same workload with another number of steps."""
        return replace(self, setting=replace(self.setting, steps=steps))


def noise(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Callable[[int], Tensor]:
    """Return standard normal noise of a shape as a function of its seed."""

    def draw(number: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(number)).to(device, dtype)

    return draw


def tinyworld(device: torch.device, dtype: torch.dtype) -> Workload:
    """Tinyworld as an explanation runs it: 8 DDIM steps, guidance 3, 2 images, 3 soft tokens, a classifier."""
    classifier = dx.Classifier.from_pretrained("tinyworld/background")
    pipeline = dx.Explainer("tinyworld", classifier).pipeline
    with torch.no_grad():
        negative = pipeline.encode_text([""]).prompt_embeds
        start = pipeline.token_embeddings("a red boat").detach()
    setting = Setting(pipeline.unet, pipeline.vae, pipeline.scheduler, 8, 3.0, negative)
    label = classifier.label_index("fish")
    return Workload(
        setting,
        lambda soft: pipeline.encode_soft(soft).prompt_embeds.expand(2, -1, -1),
        start,
        noise((2, *pipeline.latent_shape), dtype, device),
        lambda images: -classifier(images.clamp(0, 1)).log_softmax(1)[:, label].mean(),
    )


def sd15(device: torch.device, dtype: torch.dtype) -> Workload:
    """Stable Diffusion 1.5's shapes with random weights: 512 x 512, 20 DDIM steps, guidance 7.5, one image."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    torch.manual_seed(0)
    with torch.device(device):
        unet: Any = UNet2DConditionModel(cross_attention_dim=768, sample_size=64, attention_head_dim=8)
        vae: Any = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
    unet, vae = (model.to(dtype).eval().requires_grad_(False) for model in (unet, vae))
    setting = Setting(unet, vae, DDIMScheduler(**_SIGNAL), 20, 7.5, torch.randn(1, 77, 768).to(device, dtype))
    head = nn.Sequential(nn.Conv2d(3, 32, 7, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    head = head.to(device, dtype).eval().requires_grad_(False)
    return Workload(
        setting,
        lambda embeds: embeds,
        torch.randn(1, 77, 768).to(device, dtype),
        noise((1, 4, 64, 64), dtype, device),
        lambda images: -head(images).log_softmax(1)[:, 0].mean(),
    )


WORKLOADS: dict[str, Callable[[torch.device, torch.dtype], Workload]] = {"tinyworld": tinyworld, "sd15": sd15}
