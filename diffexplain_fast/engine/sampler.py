"""The differentiable sampler: prompt embeddings and start noise in, images out, gradients back."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from diffexplain_fast.engine.checks import (
    check_backend,
    check_bytes,
    check_generator,
    check_graphs,
    check_guidance,
    check_modules,
    check_numerics,
    check_ready,
    check_tensor,
)
from diffexplain_fast.engine.fast.engine import FastEngine
from diffexplain_fast.engine.gradients import GradientMode
from diffexplain_fast.engine.graphs.recording import Graphs
from diffexplain_fast.engine.memory.plan import Plan, parse_bytes
from diffexplain_fast.engine.reference import Conditions, decode, denoise, guided_denoiser
from diffexplain_fast.engine.schedules import Schedule
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.ops._autograd import refuse_transforms


class DifferentiableSampler:
    """Text-to-image sampling as a function whose gradient reaches the prompt embeddings and the start latents.

    Args:
        unet: diffusers UNet of Stable Diffusion 1.x, 2.x or XL; never changed, its weights get no gradient.
        vae: diffusers AutoencoderKL; never changed.
        scheduler: DDIM (eta 0), LCM, Euler or DPM-Solver++ 2M, predicting noise or velocity; never changed.
        num_inference_steps: denoising steps, at least 1.
        guidance_scale: classifier-free guidance, at least 1.0, where the unconditional rows are not run.
        backend: "fast" (lean models, exact, under a byte limit), "reference" (eager diffusers), or "auto": fast where
            the models are known to it, else the reference. With "fast" a model that is not known runs through its
            own modules, computed again step by step; ``plan`` says so.
        memory: limit of all bytes, weights included: a number, or text such as "8GiB". "auto" is what is free on a CUDA
            device; None is no limit. Not for the reference.
        gradient: "full"; "checkpointed" (the same gradient, stores one sample per step and recomputes the rest);
            "last:K" (K last steps only; biased, and without gradient to the latents unless K is every step);
            "detached" (biased: leaves out how each prediction depends on its input latents); "shortcut:K" (other
            images: the K-th prediction of the clean sample, the K - 1 steps before it without gradient).
        savings: "all", or the names of what the fast backend shall not compute twice, from "text", "time", "rows",
            "first", "upsampling", "skips": to see what each is worth, for the gradient is the same.
        cuda_graphs: let the fast backend record the second of two calls of one kind into CUDA graphs, and replay it for
            later ones: the same work with few launches. One recording holds the memory of a whole call until a call
            of another kind records a gradient. "auto": where it can be done; True raises where it cannot; False: never.
        deterministic: let the fast backend give equal bits from equal calls, some of it slower; the sampler's part
            alone. A CUDA device needs CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment.
        retry_dtype: torch.bfloat16 or torch.float32, in which the fast backend runs a float16 call again that is not
            finite, with a warning, on copies of the models that it makes then; None raises NonFiniteError.
        host_memory: limit of pinned host memory in which the fast backend on a CUDA device may keep steps, such as
            "16GiB", where that is faster than computing them again; None for none. Such calls use no CUDA graphs.
        reserve: what of ``memory`` the caller needs beside the sampler, such as a classifier with its activations, as
            ``memory`` is given; a plan counts it as held all the time. None for nothing.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a module, scheduler, option or value that is not supported; the message says what is.

    Source: the sampling loop of diffusers' ``StableDiffusionPipeline``; gradient modes: DRaFT (arXiv 2309.17400),
        DEXTER (arXiv 2510.14741) and DPO-Diff (arXiv 2407.01606).
    """

    def __init__(
        self,
        *,
        unet: Any,
        vae: Any,
        scheduler: Any,
        num_inference_steps: int = 20,
        guidance_scale: float = 7.5,
        backend: str = "auto",
        memory: Any = "auto",
        gradient: str = "full",
        savings: str | Collection[str] = "all",
        cuda_graphs: bool | str = "auto",
        deterministic: bool = False,
        retry_dtype: torch.dtype | None = None,
        host_memory: Any = None,
        reserve: Any = None,
    ) -> None:
        check_modules(unet, vae)
        check_backend(backend, memory)
        self.guidance_scale = check_guidance(guidance_scale)
        self.schedule = Schedule.from_scheduler(scheduler, num_inference_steps)
        self.num_inference_steps = num_inference_steps
        self._mode = GradientMode.parse(gradient, len(self.schedule.steps))
        if self._mode.calls is not None:
            self.schedule = self.schedule.shortened(self._mode.calls)
        self.gradient = gradient
        self._modules = (unet, vae)
        self.cuda_graphs = check_graphs(cuda_graphs, backend)
        graphs = Graphs(self.cuda_graphs)
        check_numerics(deterministic, retry_dtype, backend)
        check_bytes("host_memory", host_memory, backend)
        check_bytes("reserve", reserve, backend)
        self._engine = None
        if backend != "reference":
            numerics = (deterministic, retry_dtype)
            self._engine = FastEngine(unet, vae, memory, "auto", savings, graphs, *numerics, host_memory, reserve)
        self.backend, self.reason = backend, "asked for"
        if self._engine is not None and backend == "auto":
            unknown = self._engine.unknown
            self.backend = "reference" if unknown else "fast"
            self.reason = f"auto: {unknown or 'the models are known to the fast engine'}"
            if unknown and (parse_bytes(memory) is not None or deterministic or retry_dtype is not None):
                # The reference has none of these; the fast engine does, even through the user's own modules.
                self.backend = "fast"
            self._engine = self._engine if self.backend == "fast" else None

    @classmethod
    def from_pipe(cls, pipe: Any, **options: Any) -> "DifferentiableSampler":
        """Make a sampler from the ``unet``, ``vae`` and ``scheduler`` of a pipeline.

        Args:
            pipe: a diffusers pipeline or a ``Pipeline``; nothing in it is changed.
            **options: as in the class.

        Raises:
            TypeError: ``pipe`` lacks one of the three.
        """
        if any(getattr(pipe, part, None) is None for part in ("unet", "vae", "scheduler")):
            raise wrong_type("pipe", "a pipeline with unet, vae and scheduler", pipe)
        return cls(unet=pipe.unet, vae=pipe.vae, scheduler=pipe.scheduler, **options)

    def __call__(
        self,
        prompt_embeds: Tensor,
        negative_prompt_embeds: Tensor | None = None,
        latents: Tensor | None = None,
        generator: torch.Generator | None = None,
        *,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        time_ids: Tensor | None = None,
    ) -> Tensor:
        """Generate one image per prompt.

        Args:
            prompt_embeds: [B, L, d] in the UNet's dtype.
            negative_prompt_embeds: [1 or B, L, d]; needed unless the guidance scale is 1.0, and not read then.
            latents: start noise of unit variance [B, c, h, w]; drawn from ``generator`` if None.
            generator: on the CPU; draws the latents if there are none, then LCM's noise for every step. None means a
                fresh one from torch's global seed, whose state is left alone: the same numbers at each call.
            pooled_prompt_embeds: [B, p], Stable Diffusion XL only.
            negative_pooled_prompt_embeds: [1 or B, p]; XL only, where ``negative_prompt_embeds`` is needed.
            time_ids: [1 or B, 6] original size, crop corner and target size in pixels, XL only; the image's own size
                and no crop if None, as in diffusers.

        Returns:
            Images [B, 3, H, W], about [0, 1] and unclamped, in the VAE's dtype. The fast engine's first backward frees
            what the call kept; a later one, of a second loss with ``retain_graph=True``, runs the call again first.

        Raises:
            TypeError: an argument of the wrong kind.
            ValueError: wrong shape, dtype or device, or a negative prompt is needed and missing.
                Also ``cuda_graphs=True`` where a call cannot be recorded.
            NonFiniteError: a float16 forward or backward of the fast engine is not finite; names the step.
            RuntimeError: a call inside ``torch.func`` or forward mode. The backward of the fast engine raises it for a
                second derivative, a batch of cotangents, and models edited since the call.
        """
        given = (prompt_embeds, negative_prompt_embeds, latents, pooled_prompt_embeds, negative_pooled_prompt_embeds)
        refuse_transforms("the sampler", *given)
        weight = check_ready(self.unet, self.vae)
        width = self.unet.config.cross_attention_dim
        check_tensor("prompt_embeds", prompt_embeds, ("B", "L", width if isinstance(width, int) else "d"), weight)
        generator = check_generator(generator)
        start = self._start(latents, len(prompt_embeds), generator, weight)
        pooled = (pooled_prompt_embeds, negative_pooled_prompt_embeds)
        added = self._added(prompt_embeds, *pooled, time_ids, start)
        embeds = self._rows("negative_prompt_embeds", prompt_embeds, negative_prompt_embeds)
        noises = [
            torch.randn(start.shape, generator=generator, dtype=start.dtype).to(start.device) if step.noise else None
            for step in self.schedule.steps
        ]
        if self._engine is not None:
            unconditional = (negative_prompt_embeds, negative_pooled_prompt_embeds, time_ids)
            fixed = not any(part is not None and part.requires_grad for part in unconditional)
            conditions = Conditions(embeds, added)
            return self._engine.run(self.schedule, conditions, self.guidance_scale, fixed, start, noises, self._mode)
        denoiser = guided_denoiser(self.unet, Conditions(embeds, added), self.guidance_scale)
        return decode(self.vae, denoise(denoiser, self.schedule, start, noises, self._mode), self._mode)

    @property
    def unet(self) -> Any:
        """The UNet it samples with; another one needs another sampler."""
        return self._modules[0]

    @property
    def vae(self) -> Any:
        """The VAE it decodes with; another one needs another sampler."""
        return self._modules[1]

    @property
    def plan(self) -> Plan | None:
        """What each step keeps: the plan of the last call of the fast engine that recorded a graph, else None."""
        return None if self._engine is None else self._engine.plan

    def record(self) -> dict[str, str | int | float]:
        """Return what ran, for a result's settings: every value is a plain number or text."""
        return {
            "backend": self.backend,
            "reason": self.reason,
            "gradient": self.gradient,
            "scheduler": self.schedule.scheduler,
            "prediction_type": self.schedule.prediction_type,
            "num_inference_steps": self.num_inference_steps,
            "guidance_scale": self.guidance_scale,
            "implementations": "" if self._engine is None else self._engine.implementations,
            "cuda_graphs": "" if self._engine is None else self._engine.graphs,
            "retried_calls": 0 if self._engine is None else self._engine.retried,
        }

    def _start(self, latents: Tensor | None, batch: int, generator: torch.Generator, weight: Tensor) -> Tensor:
        """Start noise in single precision or better, in which the sample is kept from step to step."""
        dtype = torch.promote_types(weight.dtype, torch.float32)
        channels = self.unet.config.in_channels
        if latents is not None:
            check_tensor("latents", latents, (batch, channels, "h", "w"), weight)
            return latents.to(dtype)
        size = self.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        drawn = torch.randn((batch, channels, height, width), generator=generator, dtype=dtype)
        return drawn.to(weight.device)

    def _rows(self, name: str, positive: Tensor, negative: Tensor | None) -> Tensor:
        """Put the unconditional rows before the conditional ones where guidance needs them."""
        if self.guidance_scale == 1.0:
            return positive
        batch, *sizes = positive.shape
        if negative is None:
            wanted = f"a tensor for guidance_scale {self.guidance_scale} (without guidance, 1.0, none is needed)"
            raise wrong_value(name, wanted, None)
        check_tensor(name, negative, (f"1 or {batch}", *sizes), positive)
        return torch.cat([negative.expand_as(positive), positive])

    def _added(
        self, embeds: Tensor, pooled: Tensor | None, negative: Tensor | None, time_ids: Tensor | None, start: Tensor
    ) -> dict[str, Tensor] | None:
        """Pooled text and sizes for Stable Diffusion XL; other UNets take none."""
        names = ("pooled_prompt_embeds", "negative_pooled_prompt_embeds", "time_ids")
        if getattr(self.unet.config, "addition_embed_type", None) is None:
            for name, value in zip(names, (pooled, negative, time_ids), strict=True):
                if value is not None:
                    raise wrong_value(name, "None, for this unet is no Stable Diffusion XL", type(value).__name__)
            return None
        batch = len(embeds)
        if pooled is None:
            raise wrong_value(names[0], f"[{batch}, p], for this unet is a Stable Diffusion XL", None)
        check_tensor(names[0], pooled, (batch, "p"), embeds)
        if time_ids is None:
            factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
            height, width = start.shape[2] * factor, start.shape[3] * factor
            time_ids = embeds.new_tensor([[height, width, 0, 0, height, width]])
        check_tensor(names[2], time_ids, (f"1 or {batch}", 6), embeds)
        time_ids = time_ids.expand(batch, -1)
        copies = 1 if self.guidance_scale == 1.0 else 2
        return {"text_embeds": self._rows(names[1], pooled, negative), "time_ids": time_ids.repeat(copies, 1)}


def accelerate(pipe: Any, memory: Any = "auto", **options: Any) -> DifferentiableSampler:
    """Return a fast sampler for a pipeline, which stays as it is.

    Args:
        pipe: a diffusers pipeline or a ``Pipeline``.
        memory: limit of all bytes, weights included, such as "8GiB"; see ``DifferentiableSampler``.
        **options: as in ``DifferentiableSampler``.

    Returns:
        A sampler with ``backend="fast"``: whatever differentiates through the pipeline calls it in its place.

    Raises:
        TypeError: ``pipe`` lacks a part, or an option of the wrong kind.
        ValueError: an option out of range.
    """
    return DifferentiableSampler.from_pipe(pipe, backend="fast", memory=memory, **options)
