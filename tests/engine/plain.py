"""The loop that people write with diffusers, in float64: the truth for the engine's tests."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, LCMScheduler
from torch import Tensor
from torch.overrides import TorchFunctionMode

SCHEDULERS = {
    "ddim": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
    "lcm": (LCMScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
    "dpm": (DPMSolverMultistepScheduler, {}),
}
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def make_scheduler(kind: str, prediction_type: str = "epsilon", **options: Any) -> Any:
    """Return a diffusers scheduler with Stable Diffusion's noise levels."""
    cls, usual = SCHEDULERS[kind]
    return cls(**{**NOISE, **usual, "prediction_type": prediction_type, **options})


class KeepFloat64(TorchFunctionMode):
    """Ignores the casts to float32 that some schedulers make on the way, so that a comparison shows only mistakes.

    For the same reason steps are given plain numbers: LCM would compute its scalings in a timestep tensor's float32.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is Tensor.to and torch.float32 in args and args[0].dtype == torch.float64:
            return args[0]
        return function(*args, **(kwargs or {}))


def in_float64(scheduler: Any, steps: int) -> Any:
    """Return a copy that computes in float64 with the very numbers of the scheduler's float32 tables."""
    own = copy.deepcopy(scheduler)
    own.set_timesteps(steps)
    for table in ("alphas_cumprod", "final_alpha_cumprod", "sigmas"):
        if hasattr(own, table):
            setattr(own, table, getattr(own, table).double())
    return own


@dataclass
class Plain:
    """Diffusers' own loop over a UNet and a VAE, with plain autograd.

    Attributes:
        detached: detach the UNet's input latents.
        graph_from: first step with a graph; the sample is detached before it.
    """

    unet: Any
    vae: Any
    scheduler: Any
    steps: int
    guidance: float
    detached: bool = False
    graph_from: int = 0

    def __call__(self, prompt, negative, latents, generator=None, added=None) -> Tensor:
        """Return images; ``added`` holds the XL conditions of the conditional and the unconditional rows."""
        scheduler = in_float64(self.scheduler, self.steps)
        extra = {"generator": generator} if isinstance(scheduler, LCMScheduler) else {}
        sample = latents * scheduler.init_noise_sigma
        for i, t in enumerate(scheduler.timesteps):
            if i == self.graph_from and i > 0:
                sample = sample.detach()
                if hasattr(scheduler, "model_outputs"):
                    scheduler.model_outputs = [
                        None if each is None else each.detach() for each in scheduler.model_outputs
                    ]
            rows = scheduler.scale_model_input(sample, t)
            rows = rows.detach() if self.detached else rows
            output = self._predict(rows, t, prompt, added and added[0])
            if self.guidance != 1:
                unconditional = self._predict(rows, t, negative.expand_as(prompt), added and added[1])
                output = unconditional + self.guidance * (output - unconditional)
            with KeepFloat64():
                sample = scheduler.step(output, t.item(), sample, return_dict=False, **extra)[0]
        return self.vae.decode(sample / self.vae.config.scaling_factor, return_dict=False)[0] / 2 + 0.5

    def _predict(self, rows, t, embeds, added):
        return self.unet(rows, t, encoder_hidden_states=embeds, added_cond_kwargs=added).sample


def relative(got: Tensor, truth: Tensor) -> float:
    """Distance of two tensors as a share of the truth's size."""
    return float((got - truth).detach().norm() / truth.detach().norm())


def gradients(images: Tensor, cotangent: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Gradients of <images, cotangent>."""
    return torch.autograd.grad((images * cotangent).sum(), inputs)
