"""The kinds of iteration: models and options that all rivals share, prompt, noise and target."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.engine.scheduler_names import load_with_scheduler
from diffexplain_fast.errors import wrong_value
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.public import PUBLIC, public_models

_SIGNAL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_PROMPT = "a photo of a boat"
Images = Callable[[Tensor, Tensor], Tensor]
"""(prompt embeddings [B, L, d], start noise [B, c, h, w]) -> images [B, 3, H, W], about [0, 1]."""


@dataclass(frozen=True)
class Setting:
    """Models and sampling options that all rivals of a run share."""

    unet: Any  # frozen diffusers UNet
    vae: Any  # frozen diffusers VAE
    scheduler: Any  # diffusers scheduler
    steps: int  # denoising steps
    guidance_scale: float  # at least 1
    negative: Tensor  # negative prompt embeddings [1, L, d]
    pooled: Tensor | None = None  # pooled text [1, p] of every row, for Stable Diffusion XL

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return self.negative.device

    def copied(self) -> "Setting":
        """Return a setting whose models may be changed: their weights lie where the originals' do until they are."""
        weights = [weight for model in (self.unet, self.vae) for weight in model.parameters()]
        own = {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in weights}
        return replace(self, unet=copy.deepcopy(self.unet, own).eval(), vae=copy.deepcopy(self.vae, own).eval())

    def added(self, text: Tensor, size: tuple[int, int]) -> dict[str, Tensor] | None:
        """Return the conditions of XL beside its text [B, L, d], for uncropped images of a size; None for others."""
        if self.pooled is None:
            return None
        time_ids = text.new_tensor([[*size, 0, 0, *size]])
        return {"text_embeds": self.pooled.expand(len(text), -1), "time_ids": time_ids.expand(len(text), -1)}

    def sampler(self, **options: Any) -> "Sampled":
        """Return images by our sampler, of the same options as ``DifferentiableSampler``, such as its backend."""
        models = {"unet": self.unet, "vae": self.vae, "scheduler": self.scheduler}
        options |= {"num_inference_steps": self.steps, "guidance_scale": self.guidance_scale}
        return Sampled(self, DifferentiableSampler(**models, **options))


@dataclass(frozen=True)
class Sampled:
    """Images by our sampler."""

    setting: Setting  # models and options
    sampler: DifferentiableSampler  # draws the images; its plan says which tensors are kept

    def __call__(self, embeds: Tensor, latents: Tensor) -> Tensor:
        """Return images [B, 3, H, W] of prompt embeddings [B, L, d] and start noise [B, c, h, w]."""
        negative, pooled = self.setting.negative, self.setting.pooled
        rows = None if pooled is None else pooled.expand(len(embeds), -1)
        steady = torch.Generator().manual_seed(0)  # LCM's noise, the same at each call
        draw = partial(self.sampler, pooled_prompt_embeds=rows, negative_pooled_prompt_embeds=pooled)
        return draw(embeds, negative, latents, steady)


@dataclass(frozen=True)
class Workload:
    """One kind of iteration."""

    setting: Setting  # models and sampling options
    # soft tokens [n, d] (or embeddings) that are optimised -> prompt embeddings [1, L, d]
    prompt: Callable[[Tensor], Tensor]
    start: Tensor  # where the optimisation starts
    latent_shape: tuple[int, int, int]  # channels, height and width of the start noise
    batch: int  # images, at least 1
    loss: Callable[[Tensor], Tensor]  # images [B, 3, H, W] -> scalar

    def embeds(self, soft: Tensor) -> Tensor:
        """Return the prompt embeddings [B, L, d] of the tensor that is optimised."""
        return self.prompt(soft).expand(self.batch, -1, -1)

    def latents(self, number: int) -> Tensor:
        """Return the start noise [B, c, h, w] of an iteration, which its number seeds."""
        drawn = torch.randn((self.batch, *self.latent_shape), generator=torch.Generator().manual_seed(number))
        return drawn.to(self.setting.device, self.setting.negative.dtype)

    def with_options(
        self, *, steps: int | None = None, guidance_scale: float | None = None, batch: int | None = None
    ) -> "Workload":
        """Return the same workload with other options; None stays, and an option below 1 is a ``ValueError``."""
        steps = self.setting.steps if steps is None else steps
        scale = self.setting.guidance_scale if guidance_scale is None else guidance_scale
        batch = self.batch if batch is None else batch
        if batch < 1:
            raise wrong_value("batch", "at least 1 image", batch)
        if steps < 1:
            raise wrong_value("steps", "at least 1 step", steps)
        if not 1 <= scale < math.inf:
            raise wrong_value("guidance", "at least 1, which is none, and finite", scale)
        return replace(self, setting=replace(self.setting, steps=steps, guidance_scale=scale), batch=batch)


def tinyworld(device: torch.device, dtype: torch.dtype) -> Workload:
    """Tinyworld as an explanation runs it: 8 DDIM steps, guidance 3, 2 images, 3 soft tokens, a classifier."""
    classifier = Classifier.from_pretrained("tinyworld/background", device=device)
    label = classifier.label_index("fish")

    def loss(images: Tensor) -> Tensor:
        return -classifier(images.float().clamp(0, 1)).log_softmax(1)[:, label].mean()

    workload = of_pipeline(device, dtype, source="tinyworld", prompt="a red boat")
    return replace(workload.with_options(steps=8, guidance_scale=3.0, batch=2), loss=loss)


def of_pipeline(
    device: torch.device, dtype: torch.dtype, *, source: str, prompt: str = _PROMPT, scheduler: str | None = None
) -> Workload:
    """One image of a pipeline with its own weights, 20 steps, whose soft tokens are optimised from those of a prompt.

    See ``load_pipeline`` for the source, a folder or hub id, and ``load_with_scheduler`` for the scheduler by name.
    """
    pipeline = load_with_scheduler(source, scheduler, dtype=dtype, device=device)
    for model in (pipeline.unet, pipeline.vae, *pipeline.text_encoders):
        model.requires_grad_(False)
    with torch.no_grad():
        negative, pooled = pipeline.unconditional()
        start = pipeline.token_embeddings(prompt).detach()
    setting = Setting(pipeline.unet, pipeline.vae, pipeline.scheduler, 20, 7.5, negative, pooled)
    shape, loss = pipeline.latent_shape, _head(device, dtype)
    return Workload(setting, lambda soft: pipeline.encode_soft(soft).prompt_embeds, start, shape, 1, loss)


def _public(
    device: torch.device, dtype: torch.dtype, *, model: str, scheduler: Callable[[], Any], steps: int, guidance: float
) -> Workload:
    """One image of a configuration of ``PUBLIC`` with random weights, whose prompt embeddings are optimised."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        # As diffusers loads them; another layout is a rival's choice.
        unet, vae = (it.to(memory_format=torch.contiguous_format) for it in public_models(model, dtype, device))
        side, text = unet.config.sample_size, (1, PUBLIC[model].tokens, unet.config.cross_attention_dim)
        pooled = None
        if unet.config.addition_embed_type is not None:
            width = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
            pooled = torch.randn(1, width).to(device, dtype)
        negative, start = (torch.randn(text).to(device, dtype) for _ in range(2))
    setting = Setting(unet, vae, scheduler(), steps, guidance, negative, pooled)
    shape, loss = (unet.config.in_channels, side, side), _head(device, dtype)
    return Workload(setting, lambda embeds: embeds, start, shape, 1, loss)


def _head(device: torch.device, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """The loss of a small classifier with random weights, because the sampler is what is measured."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # Smooth, because rounding changes the gradient at a kink, and gradients are compared.
        parts = [nn.Conv2d(3, 32, 7, 4), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)]
    head = nn.Sequential(*parts).to(device, dtype).eval().requires_grad_(False)
    return lambda images: -head(images).log_softmax(1)[:, 0].mean()


def _scheduler(name: str, **options: object) -> Any:
    """A diffusers scheduler by its class, imported here, because diffusers takes seconds."""
    import diffusers

    return getattr(diffusers, name)(**_SIGNAL, **options)


_DDIM = partial(_scheduler, "DDIMScheduler", clip_sample=False)
_LCM = partial(_scheduler, "LCMScheduler", clip_sample=False)
_EULER = partial(_scheduler, "EulerDiscreteScheduler", timestep_spacing="trailing")
_SD21 = partial(_DDIM, prediction_type="v_prediction")
Make = Callable[[torch.device, torch.dtype], Workload]
WORKLOADS: dict[str, Make] = {
    "tinyworld": tinyworld,
    "sd15": partial(_public, model="sd15", scheduler=_DDIM, steps=20, guidance=7.5),
    "sd15-50": partial(_public, model="sd15", scheduler=_DDIM, steps=50, guidance=7.5),
    "sd15-lcm4": partial(_public, model="sd15", scheduler=_LCM, steps=4, guidance=1.0),
    "sd21": partial(_public, model="sd21", scheduler=_SD21, steps=20, guidance=7.5),
    "sdxl-4": partial(_public, model="sdxl", scheduler=_EULER, steps=4, guidance=1.0),
}
"""Stable Diffusion 1.5 at 512 pixels, 2.1 at 768 and XL at 1024; "sd15" has 20 steps, as "sd21"."""
