"""The differentiable sampler: prompt embeddings and start noise in, images out, gradients back."""

from collections.abc import Collection, Sequence
from types import SimpleNamespace
from typing import Any, NoReturn

import torch
from torch import Tensor

from diffexplain_fast.engine.backend import Backend, Record
from diffexplain_fast.engine.checks import check_eta, check_guidance, check_modules, check_rescale
from diffexplain_fast.engine.courses import Courses
from diffexplain_fast.engine.fast.engine import FastEngine
from diffexplain_fast.engine.gradients import GradientMode, parse_gradient
from diffexplain_fast.engine.inputs import Unseeded, read_inputs
from diffexplain_fast.engine.memory.plan import Plan
from diffexplain_fast.engine.reference import decode, denoise, guided_denoiser
from diffexplain_fast.engine.spacing import Spacing
from diffexplain_fast.errors import describe, wrong_type
from diffexplain_fast.models.text_to_image import check_text_to_image
from diffexplain_fast.models.xl import decoding_vae
from diffexplain_fast.ops._autograd import refuse_transforms


class DifferentiableSampler:
    """Text-to-image sampling as a function whose gradient reaches prompt embeddings, start latents and trained weights.

    Args:
        unet: diffusers UNet of Stable Diffusion 1.x, 2.x or XL; never changed. Trained weights: ``docs/engine.md``.
        vae: diffusers AutoencoderKL; never changed. A float16 one of Stable Diffusion XL whose configuration has
            ``force_upcast`` decodes in float32, as in diffusers' pipeline, on a copy that a plan counts.
        scheduler: DDIM (eta 0), LCM, Euler or DPM-Solver++ 2M, predicting noise or velocity; never changed.
        num_inference_steps: denoising steps, at least 1.
        guidance_scale: classifier-free guidance, at least 1.0, where the unconditional rows are not run.
        guidance_rescale: 0 to 1, how much of the conditional prediction's standard deviation a guided one gets back;
            as in diffusers, without effect unless there is guidance.
        timesteps: the timesteps, noisiest first, in place of a number of steps; for LCM, Euler and DPM-Solver++.
        sigmas: the noise levels, the one after the last step included; for Euler.
        eta: 0: DDIM without fresh noise is the one that is differentiated.
        backend: "fast" (lean models, exact, under a byte limit), "reference" (eager diffusers), or "auto": fast where
            the models are known to it, else the reference. With "fast" a model that is not known runs through its
            own modules, computed again step by step; ``plan`` says so.
        memory: limit of all bytes, weights and on a CUDA device libraries' workspaces included: a number, or text such
            as "8GiB". "auto" is what is free on a CUDA device; None is no limit. Not for the reference.
        gradient: a mode of ``diffexplain_fast.gradients``, or its text: "full", "checkpointed" (the same gradient,
            stores one sample per step), "last:K" (K last steps only; biased, no gradient to the latents), "detached"
            (biased: leaves out how each prediction depends on its input latents) or "shortcut:K" (other images: the
            K-th prediction of the clean sample).
        savings: "all", or the names of what the fast backend shall not compute twice, from "text", "time", "rows",
            "first", "upsampling", "skips": to see what each is worth, for the gradient is the same.
        cuda_graphs: let the fast backend record the second of two calls of one kind into CUDA graphs, and replay it for
            later ones: the same work with few launches. One recording holds the memory of a whole call until a call
            of another kind records a gradient. "auto": where it can be done; True raises where it cannot; False: never.
        deterministic: let the fast backend give equal bits from equal calls, some of it slower; only in the sampler's
            part. A CUDA device needs CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment.
        retry_dtype: torch.bfloat16 or torch.float32, in which the fast backend runs a float16 call again that is not
            finite, with a warning, on copies of the models; None, or trained weights, raises NonFiniteError.
        host_memory: limit of pinned host memory in which the fast backend on a CUDA device may keep steps, such as
            "16GiB", where that is faster than computing them again; None for none. Such calls use no CUDA graphs.
        reserve: what of ``memory`` the caller needs beside the sampler, such as a classifier with its activations, as
            ``memory`` is given; a plan counts it as held all the time. None for nothing.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a module, scheduler, option or value that is not supported; the message says what is.

    Source: the sampling loop of diffusers' ``StableDiffusionPipeline``; gradient modes: DRaFT (arXiv 2309.17400),
        DEXTER (arXiv 2510.14741) and DPO-Diff (arXiv 2407.01606); rescaled guidance: Lin et al. (arXiv 2305.08891).
    """

    def __init__(
        self,
        *,
        unet: Any,
        vae: Any,
        scheduler: Any,
        num_inference_steps: int = 20,
        guidance_scale: float = 7.5,
        guidance_rescale: float = 0.0,
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
        eta: float = 0.0,
        backend: str = "auto",
        memory: Any = "auto",
        gradient: GradientMode | str = "full",
        savings: str | Collection[str] = "all",
        cuda_graphs: bool | str = "auto",
        deterministic: bool = False,
        retry_dtype: torch.dtype | None = None,
        host_memory: Any = None,
        reserve: Any = None,
    ) -> None:
        check_modules(unet, vae)
        check_eta(eta)
        self.guidance_scale, self.guidance_rescale = check_guidance(guidance_scale), check_rescale(guidance_rescale)
        self._spacing = Spacing.of(num_inference_steps, timesteps, sigmas)
        mode = parse_gradient(gradient)
        self._courses, self.gradient = Courses(scheduler, mode), str(mode)
        self.schedule, _ = self._courses.of(self._spacing)
        self._parts: Any = SimpleNamespace(unet=unet, vae=vae, scheduler=scheduler)
        self._unseeded = Unseeded()
        options = (savings, cuda_graphs, deterministic, retry_dtype, host_memory, reserve)
        self._backend = Backend(backend, memory, *options)
        self._backend.take(unet, vae)
        self._modules = (unet, vae)

    def _follow(self) -> None:
        """Take over what was replaced in the pipeline since the last call: UNet, VAE or scheduler."""
        parts = self._parts
        courses = self._courses.over(parts.scheduler)
        if courses is not self._courses:
            self.schedule, _ = courses.of(self._spacing)
            self._courses = courses
        check_modules(parts.unet, parts.vae)  # an IP-adapter may have been loaded into the same UNet
        if parts.unet is not self.unet or parts.vae is not self.vae:
            self._backend.take(parts.unet, parts.vae)
            self._modules = (parts.unet, parts.vae)

    @classmethod
    def from_pipe(cls, pipe: Any, **options: Any) -> "DifferentiableSampler":
        """Make a sampler from the ``unet``, ``vae`` and ``scheduler`` of a pipeline, and follow them.

        Args:
            pipe: a diffusers text-to-image pipeline or a ``Pipeline``; nothing in it is changed. Where one of the three
                is replaced in it later, the next call samples with the new one.
            **options: as in the class.

        Raises:
            TypeError: ``pipe`` lacks one of the three.
            ValueError: ``pipe`` draws from more than text, such as a ControlNet; the message says what to pass instead.
        """
        if any(getattr(pipe, part, None) is None for part in ("unet", "vae", "scheduler")):
            raise wrong_type("pipe", "a pipeline with unet, vae and scheduler", pipe)
        check_text_to_image(pipe)
        made = cls(unet=pipe.unet, vae=pipe.vae, scheduler=pipe.scheduler, **options)
        made._parts = pipe
        return made

    def __call__(
        self,
        prompt_embeds: Tensor,
        negative_prompt_embeds: Tensor | None = None,
        latents: Tensor | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        *,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        time_ids: Tensor | None = None,
        negative_time_ids: Tensor | None = None,
        num_inference_steps: int | None = None,
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
        guidance_rescale: float | None = None,
        eta: float = 0.0,
    ) -> Tensor:
        """Generate one image per prompt.

        Args:
            prompt_embeds: [B, L, d] in the UNet's dtype.
            negative_prompt_embeds: [1 or B, L, d]; needed unless the guidance scale is 1.0, and not read then.
            latents: start noise of unit variance [B, c, h, w]; drawn from ``generator`` if None.
            generator: on the CPU, or a list of one for each image; draws the latents if there are none, then LCM's
                noise for every step. None draws from torch's global generator: other numbers at each call.
            pooled_prompt_embeds: [B, p], Stable Diffusion XL only.
            negative_pooled_prompt_embeds: [1 or B, p]; XL only, where ``negative_prompt_embeds`` is needed.
            time_ids: [1 or B, 6] original size, crop corner and target size in pixels, XL only; the image's own size
                and no crop if None, as in diffusers.
            negative_time_ids: [1 or B, 6], the same for the unconditional rows; ``time_ids`` if None.
            num_inference_steps: steps of this call; None for the sampler's.
            timesteps: timesteps of this call; see the class.
            sigmas: noise levels of this call; see the class.
            guidance_rescale: of this call; None for the sampler's.
            eta: 0; see the class.

        Returns:
            Images [B, 3, H, W], about [0, 1] and unclamped, in the dtype in which the VAE decodes. The fast engine's
            first backward frees what the call kept; a later one (``retain_graph=True``) runs the call again first.

        Raises:
            TypeError: an argument of the wrong kind.
            ValueError: wrong shape, dtype or device, or a negative prompt is needed and missing.
                Also ``cuda_graphs=True`` where a call cannot be recorded.
            NonFiniteError: a float16 forward or backward of the fast engine is not finite; names the step.
            RuntimeError: a call inside ``torch.func`` or forward mode. The backward of the fast engine raises it for a
                second derivative, a batch of cotangents, and models edited since the call.
        """
        inputs = (prompt_embeds, negative_prompt_embeds, latents, pooled_prompt_embeds, negative_pooled_prompt_embeds)
        refuse_transforms("the sampler", *inputs)
        self._follow()
        check_eta(eta)
        schedule, mode = self._courses.of(self._spacing.changed(num_inference_steps, timesteps, sigmas))
        scale = self.guidance_scale
        rescale = self.guidance_rescale if guidance_rescale is None else check_rescale(guidance_rescale)
        sizes = {
            "pooled_prompt_embeds": pooled_prompt_embeds,
            "negative_pooled_prompt_embeds": negative_pooled_prompt_embeds,
            "time_ids": time_ids,
            "negative_time_ids": negative_time_ids,
        }
        prompts = (prompt_embeds, negative_prompt_embeds)
        given = read_inputs(self._modules, schedule, scale, prompts, latents, generator, sizes, self._unseeded)
        conditions, start, noises, constant_negative = given
        if self._engine is not None:
            return self._engine.run(schedule, conditions, scale, constant_negative, start, noises, mode, rescale)
        denoiser = guided_denoiser(self.unet, conditions, scale, rescale)
        clean = denoise(denoiser, schedule, start, noises, mode)
        return decode(decoding_vae(self.unet, self.vae), clean, mode)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: it holds packed weights, kernels and recordings of one process and device."""
        wanted = "one made where it is used, from unet, vae and scheduler, which can be sent and copied"
        raise TypeError(describe("sampler", wanted, "pickle or copy of a DifferentiableSampler"))

    @property
    def unet(self) -> Any:
        """The UNet of the last call; a sampler of a pipeline follows one that is replaced there."""
        return self._modules[0]

    @property
    def vae(self) -> Any:
        """The VAE of the last call; a sampler of a pipeline follows one that is replaced there."""
        return self._modules[1]

    @property
    def num_inference_steps(self) -> int:
        """Denoising steps of a call that does not say how many."""
        return self._spacing.steps

    @property
    def backend(self) -> str:
        """What runs the calls: "fast" or "reference"."""
        return self._backend.name

    @property
    def reason(self) -> str:
        """Why that backend runs them."""
        return self._backend.reason

    @property
    def cuda_graphs(self) -> bool | str:
        """Whether calls may be recorded into CUDA graphs: True, False or "auto"."""
        return self._backend.cuda_graphs

    @property
    def _engine(self) -> FastEngine | None:
        return self._backend.engine

    @property
    def plans_memory(self) -> bool:
        """Whether calls follow a plan of what each step keeps, in which ``reserve`` has a place."""
        return self._engine is not None

    @property
    def edited(self) -> bool:
        """Whether the fast engine would read its models anew in a call."""
        return self._engine is not None and self._engine.edited()

    @property
    def records_calls(self) -> bool:
        """Whether calls may be recorded into CUDA graphs; what runs beside the sampler may then be recorded too."""
        return self._engine is not None and self.cuda_graphs is not False

    @property
    def plan(self) -> Plan | None:
        """What each step keeps: the plan of the last call of the fast engine that recorded a graph, else None."""
        return None if self._engine is None else self._engine.plan

    def record(self) -> Record:
        """Return what ran, for a result's settings: every value is a plain number or text.

        The fast engine adds what CUDA graphs did, and how far a replay was from the call itself: ``FastEngine.record``.
        """
        return self.identity() | ({} if self._engine is None else self._engine.record())

    def identity(self) -> Record:
        """Return what decides the images and their gradient: ``record`` before any call, whatever calls there were."""
        return {
            "backend": self.backend,
            "reason": self.reason,
            "gradient": self.gradient,
            "scheduler": self.schedule.scheduler,
            "prediction_type": self.schedule.prediction_type,
            "num_inference_steps": self.num_inference_steps,
            "guidance_scale": self.guidance_scale,
            **({"guidance_rescale": self.guidance_rescale} if self.guidance_rescale else {}),
            **self._spacing.record(),
            **self._backend.identity(),
        }

    def reserve(self, reserve: int | str | None) -> None:
        """Change what of ``memory`` the caller needs; later calls plan with it.

        Args:
            reserve: bytes as in the class, None for nothing.

        Raises:
            TypeError: of another kind.
            ValueError: no number of bytes, or a backend that does not plan.
        """
        self._backend.reserve(reserve)
