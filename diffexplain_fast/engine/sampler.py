"""The differentiable sampler: prompt embeddings and start noise in, images out, gradients back."""

from collections.abc import Collection, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Self, Unpack

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from diffexplain_fast.engine.backend import Backend, Record
from diffexplain_fast.engine.checks import check_eta, check_guidance, check_modules, check_rescale
from diffexplain_fast.engine.courses import Courses
from diffexplain_fast.engine.fast.engine import FastEngine
from diffexplain_fast.engine.gradients import GradientMode, parse_gradient
from diffexplain_fast.engine.inputs import SIZES, Unseeded, read_inputs
from diffexplain_fast.engine.lifetime import Closing
from diffexplain_fast.engine.memory.plan import Plan
from diffexplain_fast.engine.options import SamplerOptions
from diffexplain_fast.engine.planned import Planned
from diffexplain_fast.engine.reference import sample_plainly
from diffexplain_fast.engine.shown import ViewedSampler
from diffexplain_fast.engine.single import SingleCalls
from diffexplain_fast.engine.spacing import Spacing
from diffexplain_fast.errors import wrong_type
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.models.text_to_image import check_text_to_image
from diffexplain_fast.ops._autograd import refuse_transforms

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DiffusionPipeline, SchedulerMixin, UNet2DConditionModel


class DifferentiableSampler(ViewedSampler, Planned, Closing):
    """Text-to-image sampling as a function whose gradient reaches prompt embeddings, start latents and trained weights.

    Args:
        unet: diffusers UNet of Stable Diffusion 1.x, 2.x or XL; see ``layout``, and ``docs/engine.md`` for training.
        vae: diffusers AutoencoderKL; never changed. A float16 VAE of Stable Diffusion XL with ``force_upcast`` decodes
            in float32, as in diffusers' pipeline, on a copy that the plan counts.
        scheduler: DDIM (eta 0), LCM, Euler or DPM-Solver++ 2M, predicting noise or velocity; never changed.
        num_inference_steps: number of denoising steps, at least 1.
        guidance_scale: scale of classifier-free guidance, at least 1.0; at 1.0 the unconditional rows are not run.
        guidance_rescale: 0 to 1, share of the conditional prediction's standard deviation that the guided prediction
            gets back. As in diffusers, it has no effect without guidance.
        timesteps: the timesteps, noisiest first, in place of a number of steps; for LCM, Euler and DPM-Solver++.
        sigmas: the noise levels, including the level after the last step; for Euler.
        eta: only 0, because only DDIM without fresh noise is differentiated.
        backend: "fast" (lean models, exact, under a byte limit), "reference" (eager diffusers), or "auto": fast if the
            engine knows both models, else the reference. With "fast" an unknown model runs through its own modules,
            and every step is computed again; ``plan`` says so.
        memory: limit of all bytes, including weights and, on a CUDA device, the workspaces of libraries: a number, or
            text such as "8GiB". "auto": the free memory of a CUDA device. None: no limit. Not for the reference.
        gradient: a mode of ``diffexplain_fast.gradients``, or its text: "full", "checkpointed" (the same gradient, one
            stored sample per step), "last:K", "detached" (both biased) or "shortcut:K" (different images).
        savings: "all", or names of the repeated work that the fast backend avoids: "text", "time", "rows", "first",
            "upsampling", "skips". The gradient is the same; the names are for measuring what each saves.
        cuda_graphs: whether the fast backend records the second call of a kind into CUDA graphs and replays it in later
            calls. The recording holds the memory of a whole call until a call of another kind records a gradient.
            "auto": if possible. True: raises if impossible. False: never.
        deterministic: whether the fast backend gives equal bits for equal calls; slower, and only within the sampler.
            A CUDA device needs CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment.
        retry_dtype: torch.bfloat16 or torch.float32: the fast backend repeats a float16 call that is not finite in
            this dtype, on copies of the models, with a warning. Without it, or with trained weights: NonFiniteError.
        host_memory: limit of pinned host memory, such as "16GiB", in which the fast backend on a CUDA device may keep
            steps if that is faster than to compute them again. Such calls use no CUDA graphs. None: no such memory.
        reserve: bytes of ``memory``, in the same form, that the caller needs beside the sampler, such as a classifier
            with its activations. The plan counts these bytes as allocated all the time. None: nothing.
        layout: "keep", or "convert": convolution weights get the layout of the fast backend in place, so that there is
            no second copy of them, until ``close`` or the end of a ``with`` statement. Values do not change.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a module, scheduler, option or value that is not supported; the message says which are.

    Source: the sampling loop of diffusers' ``StableDiffusionPipeline``; gradient modes: DRaFT (arXiv 2309.17400),
        DEXTER (arXiv 2510.14741) and DPO-Diff (arXiv 2407.01606); rescaled guidance: Lin et al. (arXiv 2305.08891).
    """

    def __init__(
        self,
        *,
        unet: "UNet2DConditionModel",
        vae: "AutoencoderKL",
        scheduler: "SchedulerMixin",
        num_inference_steps: int = 20,
        guidance_scale: float = 7.5,
        guidance_rescale: float = 0.0,
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
        eta: float = 0.0,
        backend: str = "auto",
        memory: int | str | None = "auto",
        gradient: GradientMode | str = "full",
        savings: str | Collection[str] = "all",
        cuda_graphs: bool | str = "auto",
        deterministic: bool = False,
        retry_dtype: torch.dtype | None = None,
        host_memory: int | str | None = None,
        reserve: int | str | None = None,
        layout: str = "keep",
    ) -> None:
        check_modules(unet, vae)
        check_eta(eta)
        self.guidance_scale, self.guidance_rescale = check_guidance(guidance_scale), check_rescale(guidance_rescale)
        self._spacing = Spacing.of(num_inference_steps, timesteps, sigmas)
        mode = parse_gradient(gradient)
        self._courses, self.gradient = Courses(scheduler, mode), str(mode)
        self.schedule, _ = self._courses.of(self._spacing)
        self._source: DiffusionPipeline | Pipeline | SimpleNamespace
        self._source = SimpleNamespace(unet=unet, vae=vae, scheduler=scheduler)
        self._modules, self._unseeded = (unet, vae), Unseeded()
        self._backend = Backend(
            backend, memory, savings, cuda_graphs, deterministic, retry_dtype, host_memory, reserve, layout
        )
        self._backend.take(unet, vae)

    def _follow(self) -> None:
        """Take over a UNet, VAE or scheduler that was replaced in the pipeline since the last call."""
        self._backend.running()  # a closed sampler changes no model
        source = self._source
        courses = self._courses.over(source.scheduler)
        if courses is not self._courses:
            self.schedule, _ = courses.of(self._spacing)
            self._courses = courses
        check_modules(source.unet, source.vae)  # an IP-adapter may have been loaded into the same UNet
        if source.unet is not self.unet or source.vae is not self.vae:
            self._backend.take(source.unet, source.vae)
            self._modules = (source.unet, source.vae)

    @classmethod
    def from_pipe(cls, pipe: "DiffusionPipeline | Pipeline", **options: Unpack[SamplerOptions]) -> Self:
        """Make a sampler from the ``unet``, ``vae`` and ``scheduler`` of a pipeline, and follow them.

        Args:
            pipe: a diffusers text-to-image pipeline or a ``Pipeline``; never changed. If the caller replaces one of the
                three components later, the next call samples with the new one.
            **options: as in the class.

        Raises:
            TypeError: ``pipe`` lacks one of the three.
            ValueError: ``pipe`` draws from more than text, such as a ControlNet; the message names a remedy.
        """
        if any(getattr(pipe, name, None) is None for name in ("unet", "vae", "scheduler")):
            raise wrong_type("pipe", "a pipeline with unet, vae and scheduler", pipe)
        check_text_to_image(pipe)
        sampler = cls(unet=pipe.unet, vae=pipe.vae, scheduler=pipe.scheduler, **options)
        sampler._source = pipe
        return sampler

    @_disable_dynamo  # its graphs are its own; torch.compile around it would trace the engine for minutes, in vain
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
        guidance_scale: float | None = None,
        guidance_rescale: float | None = None,
        eta: float = 0.0,
    ) -> Tensor:
        """Generate one image per prompt.

        Args:
            prompt_embeds: [B, L, d] in the UNet's dtype.
            negative_prompt_embeds: [1 or B, L, d]; needed and read only if the scale of the call is above 1.0.
            latents: start noise of unit variance [B, c, h, w]; drawn from ``generator`` if None.
            generator: a CPU generator, or a list with a generator for each image; draws the latents if they are None,
                then LCM's noise of every step. None: torch's global generator, so each call draws other numbers.
            pooled_prompt_embeds: [B, p], Stable Diffusion XL only.
            negative_pooled_prompt_embeds: [1 or B, p]; XL only, where ``negative_prompt_embeds`` is needed.
            time_ids: [1 or B, 6] original size, crop corner and target size in pixels, XL only. None: the size of the
                image and no crop, as in diffusers.
            negative_time_ids: [1 or B, 6], the same for the unconditional rows; ``time_ids`` if None.
            num_inference_steps: steps of this call; None for the sampler's number.
            timesteps: timesteps of this call; see the class.
            sigmas: noise levels of this call; see the class.
            guidance_scale: scale of this call; None for the sampler's scale.
            guidance_rescale: strength of this call; None for the sampler's strength.
            eta: only 0; see the class.

        Returns:
            Images [B, 3, H, W], about [0, 1] and unclamped, in the dtype in which the VAE decodes. The first backward
            of the fast engine frees the kept tensors; a later backward (``retain_graph=True``) runs the call again.

        Raises:
            TypeError: an argument of the wrong kind.
            ValueError: wrong shape, dtype or device, no negative prompt, or no recording despite ``cuda_graphs=True``.
            NonFiniteError: a float16 forward or backward of the fast engine is not finite; names the step.
            RuntimeError: a call inside ``torch.func`` or forward mode. In the backward: models edited since the call,
                and of the fast engine a second derivative or a batch of cotangents.
        """
        more = (pooled_prompt_embeds, negative_pooled_prompt_embeds, time_ids, negative_time_ids)
        prompts, models = (prompt_embeds, negative_prompt_embeds), (self._source.unet, self._source.vae)
        refuse_transforms("the sampler", *prompts, latents, *more, modules=models)  # before a model is read in one
        self._follow()
        check_eta(eta)
        schedule, mode = self._courses.of(self._spacing.changed(num_inference_steps, timesteps, sigmas))
        scale = self.guidance_scale if guidance_scale is None else check_guidance(guidance_scale)
        rescale = self.guidance_rescale if guidance_rescale is None else check_rescale(guidance_rescale)
        sizes = dict(zip(SIZES, more, strict=True))
        inputs = read_inputs(self._modules, schedule, scale, prompts, latents, generator, sizes, self._unseeded)
        conditions, start, noises, constant = inputs
        if (engine := self._backend.running()) is not None:
            return engine.run(schedule, conditions, scale, constant, start, noises, mode, rescale)
        return sample_plainly(self._modules, schedule, conditions, (scale, rescale), start, noises, mode)

    @property
    def unet(self) -> "UNet2DConditionModel":
        """The UNet of the last call; a sampler made by ``from_pipe`` follows a replaced UNet."""
        return self._modules[0]

    @property
    def vae(self) -> "AutoencoderKL":
        """The VAE of the last call; a sampler made by ``from_pipe`` follows a replaced VAE."""
        return self._modules[1]

    @property
    def num_inference_steps(self) -> int:
        """Number of denoising steps of a call that does not give another number."""
        return self._spacing.steps

    @property
    def backend(self) -> str:
        """The backend that runs the calls: "fast" or "reference"."""
        return self._backend.name

    @property
    def reason(self) -> str:
        """Why that backend runs the calls."""
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
        """Whether calls follow a storage plan, which counts ``reserve``."""
        return self._engine is not None

    @property
    def edited(self) -> bool:
        """Whether the next call of the fast engine would read the models again."""
        return self._engine is not None and self._engine.edited()

    @property
    def records_calls(self) -> bool:
        """Whether calls may be recorded into CUDA graphs; functions around the sampler may then be recorded too."""
        return self._engine is not None and self.cuda_graphs is not False

    @property
    def plan(self) -> Plan | None:
        """Storage plan of the last call of the fast engine that recorded an autograd graph; None before."""
        return None if self._engine is None else self._engine.plan

    def single_calls(self, closely: bool = True) -> SingleCalls:
        """Return the UNet and the decoder that the next call runs through, for one call at a time.

        A UNet that replaces them in the pipeline later is not followed; edits are, see ``SingleCalls`` for ``closely``.
        """
        if not isinstance(closely, bool):
            raise wrong_type("closely", "True or False", closely)
        self._follow()
        return self._backend.single_calls(*self._modules, closely)

    def record(self) -> Record:
        """Return the settings and what the calls did, as plain numbers and texts; see also ``FastEngine.record``."""
        return self.identity() | ({} if self._engine is None else self._engine.record())

    def identity(self) -> Record:
        """Return the settings that decide the images and their gradient: ``record`` as it is before any call."""
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
