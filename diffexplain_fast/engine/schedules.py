"""Samplers as tables of coefficients: one step is linear in sample and output, so a few numbers describe the step.

With o_i the denoiser's (guided) output at x_i, and d_i a prediction of the clean sample where a sampler remembers it:

    o_i     = denoiser(input_scale_i x_i, timestep_i)
    x_{i+1} = sample_i x_i + output_i o_i + previous_i d_{i-1} + noise_i z_i
    d_i     = data_i[0] x_i + data_i[1] o_i
"""

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffexplain_fast.engine.spacing import Spacing
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.models.watch import foreign

if TYPE_CHECKING:
    from diffusers import SchedulerMixin
    from diffusers.configuration_utils import FrozenDict


@dataclass(frozen=True)
class Step:
    """Coefficients of one step, dimensionless.

    Attributes:
        timestep: input of the denoiser; a whole number for every scheduler except Euler.
        input_scale: factor of the sample on its way into the denoiser.
        sample: factor of the sample.
        output: factor of the denoiser's output.
        previous: factor of the previous step's prediction of the clean sample.
        noise: standard deviation of the fresh noise.
        data: factors of sample and output in the prediction of the clean sample, None if no step needs the prediction.
        clean: the same factors, in every step; a sampler ends there if this is its last call of the denoiser.
    """

    timestep: float
    sample: float
    output: float
    input_scale: float = 1.0
    previous: float = 0.0
    noise: float = 0.0
    data: tuple[float, float] | None = None
    clean: tuple[float, float] = (1.0, 0.0)


@dataclass(frozen=True)
class Schedule:
    """A sampler's trajectory as numbers.

    Attributes:
        steps: from the noisiest to the cleanest.
        init_noise_sigma: factor of unit-variance noise at the start.
        scheduler: name of the diffusers class it agrees with.
        prediction_type: what the denoiser predicts, "epsilon" or "v_prediction".
    """

    steps: tuple[Step, ...]
    init_noise_sigma: float
    scheduler: str
    prediction_type: str

    @classmethod
    def from_scheduler(
        cls,
        scheduler: "SchedulerMixin",
        num_inference_steps: int,
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
    ) -> "Schedule":
        """Tabulate a diffusers scheduler, whose own ``step`` gives the same up to rounding.

        Args:
            scheduler: DDIMScheduler (eta 0), LCMScheduler, EulerDiscreteScheduler (no churn) or
                DPMSolverMultistepScheduler (DPM-Solver++ 2M, midpoint); it is not changed.
            num_inference_steps: at least 1, at most the scheduler's training steps; ignored if values are passed.
            timesteps: the timesteps, noisiest first, in place of the scheduler's own; for LCM, Euler and DPM-Solver++.
            sigmas: the noise levels, the one after the last step included; for Euler.

        Raises:
            TypeError: ``scheduler`` is not a diffusers scheduler, or a value that chooses the steps is not a number.
            ValueError: another scheduler, a method of it that somebody replaced, an option that is not linear in the
                sample, too few or many steps, or timesteps and noise levels that the scheduler does not take.

        Source: Song et al., DDIM (arXiv 2010.02502), eq. 12; Luo et al., LCM (arXiv 2310.04378), algorithm 3; Karras et
            al., EDM (arXiv 2206.00364), algorithm 1; Lu et al., DPM-Solver++ (arXiv 2211.01095), algorithm 2.
        """
        if not hasattr(scheduler, "set_timesteps") or not hasattr(scheduler, "config"):
            raise wrong_type("scheduler", "a diffusers scheduler", scheduler)
        name, config = type(scheduler).__name__, scheduler.config
        if name not in _TABLES:
            wanted = f"one of {', '.join(_TABLES)} (make one with its from_config(scheduler.config){_COMMAND})"
            raise wrong_value("scheduler", wanted, name)
        if method := _replaced(scheduler):
            raise wrong_value("scheduler", f"diffusers' own {name}.{method}, which is tabulated", f"another {method}")
        _check_options(name, config)
        spacing = Spacing.of(num_inference_steps, timesteps, sigmas)
        # set_timesteps assigns attributes and changes no table, so a shallow copy is enough.
        copied = copy.copy(scheduler)
        spacing.apply(copied)
        if hasattr(copied, "sigmas"):
            copied.sigmas = copied.sigmas.double()
        return cls(tuple(_TABLES[name](copied)), float(copied.init_noise_sigma), name, config.prediction_type)

    def shortened(self, calls: int) -> "Schedule":
        """Return the schedule that ends at the clean sample predicted by this call of the denoiser.

        Args:
            calls: number of calls of the denoiser, 1 to the number of steps.
        """
        last = self.steps[calls - 1]
        sample, output = last.clean
        jump = Step(last.timestep, sample, output, last.input_scale, clean=last.clean)
        return replace(self, steps=(*self.steps[: calls - 1], jump))

    def timesteps(self, device: torch.device) -> Tensor:
        """Return the timesteps [N] on a device in diffusers' dtype: int64, or float32 for Euler."""
        values = [step.timestep for step in self.steps]
        dtype = torch.float32 if isinstance(values[0], float) else torch.int64
        return torch.tensor(values, dtype=dtype, device=device)


_COMMAND = "; on the command line --scheduler"
OPTIONS: dict[str, object] = {
    "thresholding": False,
    "clip_sample": False,
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
    "solver_type": "midpoint",
    "use_flow_sigmas": False,
    "variance_type": None,
}
"""Values of scheduler options with which a step is linear and is the step tabulated here; a scheduler may lack some."""
_TRAINING = frozenset(("add_noise", "get_velocity"))
"""Methods that no sampler calls."""


def _replaced(scheduler: "SchedulerMixin") -> str:
    """Return the name of a method of sampling that a subclass, decorator or the object replaces, or an empty text."""
    published = [base for base in type(scheduler).__mro__ if base.__module__.startswith("diffusers.")]
    names = {name for base in published for name in vars(base) if not name.startswith("__")}
    found = {name: inspect.getattr_static(scheduler, name) for name in sorted({*names, "step"} - _TRAINING)}
    methods = {name: value for name, value in found.items() if callable(value)}
    return next((name for name, value in methods.items() if foreign(value, ("diffusers", "torch"))), "")


def _check_options(name: str, config: "FrozenDict") -> None:
    for option, value in OPTIONS.items():
        if config.get(option, value) != value:
            wanted = f"{value!r}, as in {name}.from_config(scheduler.config, {option}={value!r}){_COMMAND}"
            raise wrong_value(f"scheduler.config.{option}", wanted, repr(config[option]))
    if config.prediction_type not in ("epsilon", "v_prediction"):
        wanted = "'epsilon' or 'v_prediction'"
        raise wrong_value("scheduler.config.prediction_type", wanted, repr(config.prediction_type))


def _levels(scheduler: "SchedulerMixin") -> list[tuple[float, float]]:
    """Return signal and noise (sqrt(alpha), sqrt(1 - alpha)) at each timestep of a variance-preserving scheduler."""
    alphas, timesteps = scheduler.alphas_cumprod.tolist(), scheduler.timesteps.tolist()
    if max(timesteps) >= len(alphas):
        wanted = f"timesteps below {len(alphas)} (fewer steps, or a smaller steps_offset)"
        raise wrong_value("num_inference_steps", wanted, max(timesteps))
    return [_level(alphas[timestep]) for timestep in timesteps]


def _level(alpha: float) -> tuple[float, float]:
    return math.sqrt(alpha), math.sqrt(1 - alpha)


def _data(scheduler: "SchedulerMixin", signal: float, noise: float) -> tuple[float, float]:
    """Return factors of sample and output in the clean sample: (x - noise o) / signal, or signal x - noise o for v."""
    if scheduler.config.prediction_type == "v_prediction":
        return signal, -noise
    if signal == 0:
        wanted = "a first step with some signal (with rescale_betas_zero_snr only v_prediction is defined there)"
        raise wrong_value("scheduler", wanted, "none")
    return 1 / signal, -noise / signal


def _ddim(scheduler: "SchedulerMixin") -> list[Step]:
    """x_{i+1} = signal' d + noise' e, where d and e are the clean sample and the noise seen in x_i (eta 0)."""
    timesteps, steps = scheduler.timesteps.tolist(), []
    stride = scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    for timestep, (signal, noise) in zip(timesteps, _levels(scheduler), strict=True):
        before = timestep - stride
        last = scheduler.alphas_cumprod[before] if before >= 0 else scheduler.final_alpha_cumprod
        next_signal, next_noise = _level(float(last))
        of_sample, of_output = _data(scheduler, signal, noise)
        v = scheduler.config.prediction_type == "v_prediction"
        noise_of_sample, noise_of_output = (noise, signal) if v else (0.0, 1.0)
        steps.append(
            Step(
                timestep,
                sample=next_signal * of_sample + next_noise * noise_of_sample,
                output=next_signal * of_output + next_noise * noise_of_output,
                clean=(of_sample, of_output),
            )
        )
    return steps


def _lcm(scheduler: "SchedulerMixin") -> list[Step]:
    """x_{i+1} = signal' (c_out d + c_skip x_i) + noise' z; the last step adds no noise."""
    timesteps, levels, steps = scheduler.timesteps.tolist(), _levels(scheduler), []
    following = [*levels[1:], (1.0, 0.0)]
    for timestep, level, (next_signal, next_noise) in zip(timesteps, levels, following, strict=True):
        c_skip, c_out = scheduler.get_scalings_for_boundary_condition_discrete(timestep)
        of_sample, of_output = _data(scheduler, *level)
        clean = c_out * of_sample + c_skip, c_out * of_output
        steps.append(
            Step(timestep, sample=next_signal * clean[0], output=next_signal * clean[1], noise=next_noise, clean=clean)
        )
    return steps


def _euler(scheduler: "SchedulerMixin") -> list[Step]:
    """x_{i+1} = x_i + (sigma' - sigma) (x_i - d) / sigma in the variance-exploding scale, x = clean + sigma noise."""
    sigmas, steps = scheduler.sigmas.tolist(), []
    v = scheduler.config.prediction_type == "v_prediction"
    for timestep, sigma, following in zip(scheduler.timesteps.tolist(), sigmas, sigmas[1:], strict=False):
        length = math.sqrt(sigma**2 + 1)
        # (x - d) / sigma is the noise in x: the output itself, or sigma / length^2 x + o / length for v.
        of_sample, of_output = (sigma / length**2, 1 / length) if v else (0.0, 1.0)
        change = following - sigma
        clean = 1 - sigma * of_sample, -sigma * of_output
        steps.append(Step(timestep, 1 + change * of_sample, change * of_output, 1 / length, clean=clean))
    return steps


def _dpm_solver(scheduler: "SchedulerMixin") -> list[Step]:
    """x_{i+1} = (noise' / noise) x_i + signal' (1 - sigma' / sigma) (d_i + (d_i - d_{i-1}) h / (2 h_before)).

    h is the step in log(1 / sigma); first-order steps (the first and, if so configured, the last) drop the difference.
    """
    config, timesteps = scheduler.config, scheduler.timesteps.tolist()
    sigmas, steps = scheduler.sigmas.tolist(), []
    short = config.lower_order_final and len(timesteps) < 15
    final = config.euler_at_final or short or config.final_sigmas_type == "zero"
    for i, timestep in enumerate(timesteps):
        sigma, following = sigmas[i], sigmas[i + 1]
        signal, next_signal = 1 / math.sqrt(sigma**2 + 1), 1 / math.sqrt(following**2 + 1)
        shrink = following / sigma
        gain, ahead = next_signal * (1 - shrink), 0.0
        if i > 0 and not (final and i == len(timesteps) - 1):
            if sigma == sigmas[i - 1]:
                raise wrong_value(
                    "num_inference_steps",
                    "noise levels that differ from step to step, between which DPM-Solver++ extrapolates (fewer steps)",
                    f"the same level at steps {i} and {i + 1} of {len(timesteps)}",
                )
            ahead = gain * math.log(shrink) / (2 * math.log(sigma / sigmas[i - 1]))
        of_sample, of_output = data = _data(scheduler, signal, sigma * signal)
        steps.append(
            Step(
                timestep,
                sample=shrink * next_signal / signal + (gain + ahead) * of_sample,
                output=(gain + ahead) * of_output,
                previous=-ahead,
                data=data,
                clean=data,
            )
        )
    return steps


_TABLES: dict[str, Callable[["SchedulerMixin"], list[Step]]] = {
    "DDIMScheduler": _ddim,
    "LCMScheduler": _lcm,
    "EulerDiscreteScheduler": _euler,
    "DPMSolverMultistepScheduler": _dpm_solver,
}
