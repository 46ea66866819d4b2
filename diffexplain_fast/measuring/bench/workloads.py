"""What an iteration is measured on: models, prompt, noise and target, of a public configuration or a pipeline."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.scheduler_names import load_with_scheduler
from diffexplain_fast.errors import wrong_value
from diffexplain_fast.measuring.bench.setting import Setting
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.public import PUBLIC, public_models

_SIGNAL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_PROMPT = "a photo of a boat"


@dataclass(frozen=True)
class Workload:
    """One kind of iteration.

    Attributes:
        setting: models and sampling options.
        prompt: soft tokens [n, d] (or embeddings) that are optimised -> prompt embeddings [1, L, d].
        start: where the optimisation starts.
        latent_shape: channels, height and width of the start noise.
        batch: images, at least 1.
        loss: images [B, 3, H, W] -> scalar.
    """

    setting: Setting
    prompt: Callable[[Tensor], Tensor]
    start: Tensor
    latent_shape: tuple[int, int, int]
    batch: int
    loss: Callable[[Tensor], Tensor]

    def embeds(self, soft: Tensor) -> Tensor:
        """Return the prompt embeddings [B, L, d] of what is optimised."""
        return self.prompt(soft).expand(self.batch, -1, -1)

    def latents(self, number: int) -> Tensor:
        """Return the start noise [B, c, h, w] of an iteration, which its number seeds."""
        drawn = torch.randn((self.batch, *self.latent_shape), generator=torch.Generator().manual_seed(number))
        return drawn.to(self.setting.device, self.setting.negative.dtype)

    def with_options(
        self, *, steps: int | None = None, guidance_scale: float | None = None, batch: int | None = None
    ) -> "Workload":
        """Return the same workload with other options; what is None stays.

        Args:
            steps: denoising steps, at least 1.
            guidance_scale: at least 1, which is none.
            batch: images, at least 1.

        Raises:
            ValueError: an option out of range.
        """
        if batch is not None and batch < 1:
            raise wrong_value("batch", "at least 1 image", batch)
        if steps is not None and steps < 1:
            raise wrong_value("steps", "at least 1 step", steps)
        if guidance_scale is not None and not 1 <= guidance_scale < math.inf:
            raise wrong_value("guidance", "at least 1, which is none, and finite", guidance_scale)
        setting = replace(
            self.setting,
            steps=self.setting.steps if steps is None else steps,
            guidance_scale=self.setting.guidance_scale if guidance_scale is None else guidance_scale,
        )
        return replace(self, setting=setting, batch=self.batch if batch is None else batch)


def tinyworld(device: torch.device, dtype: torch.dtype) -> Workload:
    """Tinyworld as an explanation runs it: 8 DDIM steps, guidance 3, 2 images, 3 soft tokens, a classifier."""
    classifier = Classifier.from_pretrained("tinyworld/background", device=device)
    label = classifier.label_index("fish")
    given = of_pipeline(device, dtype, source="tinyworld", prompt="a red boat")
    return replace(
        given.with_options(steps=8, guidance_scale=3.0, batch=2),
        loss=lambda images: -classifier(images.float().clamp(0, 1)).log_softmax(1)[:, label].mean(),
    )


def of_pipeline(
    device: torch.device, dtype: torch.dtype, *, source: str, prompt: str = _PROMPT, scheduler: str | None = None
) -> Workload:
    """One image of a pipeline with its own weights, whose soft tokens are optimised; 20 steps.

    Args:
        device: of everything.
        dtype: of everything.
        source: folder or hub id; see ``load_pipeline``.
        prompt: the words whose token embeddings the optimisation starts at.
        scheduler: name of one in place of the pipeline's own; see ``load_with_scheduler``.

    Raises:
        ValueError: the folder is no pipeline, or one of another kind.
    """
    pipeline = load_with_scheduler(source, scheduler, dtype=dtype, device=device)
    for model in (pipeline.unet, pipeline.vae, *pipeline.text_encoders):
        model.requires_grad_(False)
    with torch.no_grad():
        negative, pooled = pipeline.unconditional()
        start = pipeline.token_embeddings(prompt).detach()
    setting = Setting(pipeline.unet, pipeline.vae, pipeline.scheduler, 20, 7.5, negative, pooled)
    return Workload(
        setting,
        lambda soft: pipeline.encode_soft(soft).prompt_embeds,
        start,
        pipeline.latent_shape,
        1,
        _head(device, dtype),
    )


def public(
    device: torch.device,
    dtype: torch.dtype,
    *,
    model: str,
    scheduler: Callable[[], Any],
    steps: int,
    guidance_scale: float,
) -> Workload:
    """One image of a public configuration with random weights, whose prompt embeddings are optimised.

    Args:
        device: of everything.
        dtype: of everything.
        model: key of ``PUBLIC``.
        scheduler: makes a diffusers scheduler.
        steps: denoising steps.
        guidance_scale: at least 1.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        # As diffusers loads them; another layout is a rival's choice.
        models = public_models(model, dtype, device)
        unet, vae = (each.to(memory_format=torch.contiguous_format) for each in models)
        side, text = unet.config.sample_size, (1, PUBLIC[model].tokens, unet.config.cross_attention_dim)
        pooled = None
        if unet.config.addition_embed_type is not None:
            width = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
            pooled = torch.randn(1, width).to(device, dtype)
        negative, start = (torch.randn(text).to(device, dtype) for _ in range(2))
    return Workload(
        Setting(unet, vae, scheduler(), steps, guidance_scale, negative, pooled),
        lambda embeds: embeds,
        start,
        (unet.config.in_channels, side, side),
        1,
        _head(device, dtype),
    )


def _head(device: torch.device, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """The loss of a small classifier with random weights, where what is measured is the sampler."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # Smooth: the gradient of a kink is another one after the least rounding, and so are those that are compared.
        parts = [nn.Conv2d(3, 32, 7, 4), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)]
    head = nn.Sequential(*parts).to(device, dtype).eval().requires_grad_(False)
    return lambda images: -head(images).log_softmax(1)[:, 0].mean()


def _scheduler(name: str, **options: Any) -> Any:
    """A diffusers scheduler by its class, imported here, for diffusers takes seconds."""
    import diffusers

    return getattr(diffusers, name)(**_SIGNAL, **options)


_DDIM = partial(_scheduler, "DDIMScheduler", clip_sample=False)
_LCM = partial(_scheduler, "LCMScheduler", clip_sample=False)
_EULER = partial(_scheduler, "EulerDiscreteScheduler", timestep_spacing="trailing")
_SD21 = partial(_DDIM, prediction_type="v_prediction")
Make = Callable[[torch.device, torch.dtype], Workload]
WORKLOADS: dict[str, Make] = {
    "tinyworld": tinyworld,
    "sd15": partial(public, model="sd15", scheduler=_DDIM, steps=20, guidance_scale=7.5),
    "sd15-50": partial(public, model="sd15", scheduler=_DDIM, steps=50, guidance_scale=7.5),
    "sd15-lcm4": partial(public, model="sd15", scheduler=_LCM, steps=4, guidance_scale=1.0),
    "sd21": partial(public, model="sd21", scheduler=_SD21, steps=20, guidance_scale=7.5),
    "sdxl-4": partial(public, model="sdxl", scheduler=_EULER, steps=4, guidance_scale=1.0),
}
"""Stable Diffusion 1.5 at 512 pixels, 2.1 at 768 and XL at 1024; "sd15" has 20 steps, as "sd21"."""
