"""The whole trajectory as one autograd node: text and start latents in, images out.

With o_i the denoiser's output at x_i, x_{i+1} = guided_step(x_i, o_i, d_{i-1}) and the adjoint g_i of x_i,

    g_i = (d x_{i+1} / d x_i)^T g_{i+1} + (d d_i / d x_i)^T h_i,    dL/dp = sum_i (d x_{i+1} / dp)^T g_{i+1} + ...

where h_i is the adjoint of d_i, the prediction of the clean sample, for samplers that remember it, and p is the
projected text. Steps are kept or computed again one at a time, so no graph ever spans two of them.
"""

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.engine.fast.levels import LEVELS
from diffexplain_fast.engine.gradients import GradientMode
from diffexplain_fast.engine.schedules import Schedule, Step
from diffexplain_fast.ops._autograd import first_order
from diffexplain_fast.ops.guided_step import guided_step

_HALF_TARGET = 2.0**6
"""Size of the largest element of a float16 adjoint after rescaling: far from overflow (65504) and from underflow."""


@dataclass
class Job:
    """Everything of one call that is no tensor to differentiate in.

    Attributes:
        denoiser: lean or fallback UNet.
        decoder: lean or fallback VAE decoder.
        schedule: the sampler's table.
        coefficients: rows of ``ops.guided_step``, [N, 8], in the sample's dtype.
        noises: fresh noise of each step, None where it adds none.
        shifts: time shifts of each step, constants.
        guided: whether there are unconditional rows, the first half.
        fixed_negative: no gradient goes to the unconditional rows of the text.
        mode: what of the loop is differentiated.
        levels: storage level of each step by name, and of the decoder last.
        recording: whether a backward may follow.
        first_unconditional: prediction of the unconditional rows at the first step, None if it is not known.
    """

    denoiser: Any
    decoder: Any
    schedule: Schedule
    coefficients: Tensor
    noises: Sequence[Tensor | None]
    shifts: Sequence[Sequence[Tensor]]
    guided: bool
    fixed_negative: bool
    mode: GradientMode
    levels: Sequence[str]
    recording: bool
    first_unconditional: Tensor | None = None


class Made(NamedTuple):
    """A step's inputs, and its outputs with their graph; no outputs where the step is computed again."""

    sample: Tensor
    before: Tensor | None
    outputs: tuple[Tensor, ...] | None


def without_autocast(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function compute in the dtypes of its tensors, whatever ``torch.autocast`` is on around it."""

    @functools.wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        with ExitStack() as stack:
            for device in ("cpu", "cuda"):
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            return function(*arguments, **options)

    return wrapper


def sample_images(job: Job, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> Tensor:
    """Run the sampler and the decoder; images [B, 3, H, W] with one autograd node before them.

    Args:
        job: what to run.
        start: start latents [B, c, h, w], already scaled for the sampler.
        text: projected text of the denoiser.
        shifts: time shifts that carry a gradient, step by step; empty if ``job.shifts`` has them.
    """
    return _Trajectory.apply(job, len(text), start, *text, *shifts)


class _Trajectory(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, job: Job, count: int, start: Tensor, *inputs: Tensor) -> Tensor:
        leaves = [tensor.detach().requires_grad_(job.recording and tensor.requires_grad) for tensor in inputs]
        ctx.job, ctx.count, ctx.leaves, ctx.made = job, count, leaves, []
        sample: Tensor = start
        before: Tensor | None = None
        moving = job.recording and start.requires_grad and job.mode.first_step == 0
        for i in range(len(job.schedule.steps)):
            recorded = job.recording and i >= job.mode.first_step
            sample = sample.detach().requires_grad_(moving)
            before = None if before is None else before.detach().requires_grad_(moving)
            kept = recorded and LEVELS[job.levels[i]].keep_step
            with torch.set_grad_enabled(kept):
                outputs = _step(job, i, sample, before, leaves[:count], _shifts(job, i, leaves[count:]))
            if recorded:
                ctx.made.append(Made(sample, before, outputs if kept else None))
                moving = True
            sample, before = outputs[0], outputs[1] if len(outputs) == 2 else None
        ctx.clean = sample.detach().requires_grad_(moving)
        kept = job.recording and LEVELS[job.levels[-1]].keep_step
        with torch.set_grad_enabled(kept):
            images = job.decoder(ctx.clean, LEVELS[job.levels[-1]])
        ctx.images = images if kept else None
        return images.detach()

    @staticmethod
    @first_order
    @without_autocast
    def backward(ctx: Any, dimages: Tensor) -> tuple[Tensor | None, ...]:
        job, leaves, count = ctx.job, ctx.leaves, ctx.count
        if ctx.made is None:
            raise RuntimeError("the sampler's backward ran before and freed what it kept; call the sampler again")
        images, made, ctx.images, ctx.made = ctx.images, ctx.made, None, None
        if images is None:
            with torch.enable_grad():
                images = job.decoder(ctx.clean, LEVELS[job.levels[-1]])
        adjoint, scale = _scaled(dimages)
        (dsample,) = torch.autograd.grad(images, ctx.clean, adjoint)
        images = None
        adjoints: tuple[Tensor, Tensor | None] = (dsample / scale, None)
        totals = [torch.zeros_like(leaf, dtype=_wide(leaf.dtype)) if leaf.requires_grad else None for leaf in leaves]
        first = len(job.schedule.steps) - len(made)
        for i in reversed(range(first, len(job.schedule.steps))):
            sample, before, outputs = made.pop()
            if outputs is None:
                with torch.enable_grad():
                    outputs = _step(job, i, sample, before, leaves[:count], _shifts(job, i, leaves[count:]))
            adjoints = _step_backward(outputs, adjoints, sample, before, leaves, totals)
        grads = [None if total is None else total.to(leaf.dtype) for total, leaf in zip(totals, leaves, strict=True)]
        return None, None, adjoints[0] if ctx.needs_input_grad[2] else None, *grads


def _step(
    job: Job, i: int, sample: Tensor, before: Tensor | None, text: Sequence[Tensor], shifts: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Return x_{i+1}, and the prediction of the clean sample where the schedule asks for one."""
    step, level = job.schedule.steps[i], LEVELS[job.levels[i]]
    rows = sample if step.input_scale == 1.0 else step.input_scale * sample
    rows = (rows.detach() if job.mode.detached else rows).to(text[0].dtype)
    recorded = job.recording and i >= job.mode.first_step
    apart = recorded or (i == 0 and job.first_unconditional is not None)
    if job.guided and job.fixed_negative and apart and not rows.requires_grad:
        output = _parted(job, i, rows, text, shifts)
    else:
        output = job.denoiser(rows, text, shifts, level)
    remembered = before if step.previous else None
    following, data = guided_step(sample, output, job.coefficients[i], remembered, job.noises[i])
    return (following,) if step.data is None else (following, data)


def _parted(job: Job, i: int, rows: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> Tensor:
    """Return the denoiser's output where nothing flows back through the unconditional rows: they keep nothing."""
    batch = len(rows)
    halves = [
        ([part[half] for part in text], [part if len(part) == 1 else part[half] for part in shifts])
        for half in (slice(batch), slice(batch, None))
    ]
    level = LEVELS[job.levels[i]]
    unconditional = job.first_unconditional if i == 0 else None
    if unconditional is None:
        with torch.no_grad():
            unconditional = job.denoiser(rows, *halves[0], level)
    if i == 0:
        job.first_unconditional = unconditional
    return torch.cat([unconditional, job.denoiser(rows, *halves[1], level)])


def _step_backward(
    outputs: tuple[Tensor, ...],
    adjoints: tuple[Tensor, Tensor | None],
    sample: Tensor,
    before: Tensor | None,
    leaves: list[Tensor],
    totals: list[Tensor | None],
) -> tuple[Tensor, Tensor | None]:
    """Add a step's gradients to the totals, return the adjoints of its sample and of what it remembered."""
    pairs = [(out, adjoint) for out, adjoint in zip(outputs, adjoints, strict=False) if adjoint is not None]
    inputs = [tensor for tensor in (sample, before, *leaves) if tensor is not None and tensor.requires_grad]
    grads = [adjoint for _, adjoint in pairs]
    found = torch.autograd.grad([out for out, _ in pairs], inputs, grads, allow_unused=True)
    by_input = {id(tensor): grad for tensor, grad in zip(inputs, found, strict=True)}
    for i, leaf in enumerate(leaves):
        grad, total = by_input.get(id(leaf)), totals[i]
        if grad is not None and total is not None:
            total += grad
    dsample = by_input.get(id(sample))
    return torch.zeros_like(sample) if dsample is None else dsample, by_input.get(id(before))


def _shifts(job: Job, i: int, leaves: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return a step's time shifts: constants of the job, or its share of the leaves."""
    if not leaves:
        return job.shifts[i]
    each = len(leaves) // len(job.schedule.steps)
    return leaves[i * each : (i + 1) * each]


def _scaled(adjoint: Tensor) -> tuple[Tensor, Tensor | float]:
    """Return a float16 adjoint times a power of two that keeps it off the ends of its range, and that power."""
    if adjoint.dtype != torch.float16:
        return adjoint, 1.0
    largest = adjoint.abs().amax().float().clamp_min(torch.finfo(torch.float32).tiny)
    scale = torch.exp2(torch.floor(torch.log2(_HALF_TARGET / largest)))
    return (adjoint.float() * scale).half(), scale


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def coefficients(step: Step, guidance_scale: float) -> list[float]:
    """Return a step's row of ``ops.guided_step``."""
    data = step.data or (0.0, 0.0)
    return [guidance_scale, step.sample, step.output, step.previous, step.noise, *data, step.input_scale]
