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
from typing import Any

import torch
from torch import Tensor

from diffexplain_fast.engine.fast.levels import LEVELS, Level
from diffexplain_fast.engine.fast.numerics import Finite, divided, scale_of, scaled
from diffexplain_fast.engine.fast.pressure import Made, Memory
from diffexplain_fast.engine.gradients import GradientMode
from diffexplain_fast.engine.schedules import Schedule, Step
from diffexplain_fast.ops._autograd import first_order
from diffexplain_fast.ops.guided_step import guided_step


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
        memory: what the steps keep.
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
    memory: Memory
    recording: bool
    first_unconditional: Tensor | None = None


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
        ctx.job, ctx.count, ctx.leaves, ctx.ready = job, count, leaves, True
        sample: Tensor = start
        before: Tensor | None = None
        moving = job.recording and start.requires_grad and job.mode.first_step == 0
        finite = Finite("forward", leaves[0].dtype)
        for i in range(len(job.schedule.steps)):
            recorded, level = job.recording and i >= job.mode.first_step, LEVELS[job.levels[i]]
            sample = sample.detach().requires_grad_(moving)
            before = None if before is None else before.detach().requires_grad_(moving)
            step = _part(job, i, sample, before, leaves, count)
            outputs, kept = job.memory.forward(step, level, recorded and level.keep_step)
            finite.note(_name(job, i), outputs)
            if recorded:
                job.memory.made.append(Made(sample, before, outputs if kept else None))
                moving = True
            sample, before = outputs[0], outputs[1] if len(outputs) == 2 else None
        ctx.clean = sample.detach().requires_grad_(moving)
        level = LEVELS[job.levels[-1]]
        decoder = functools.partial(job.decoder, ctx.clean)
        images, kept = job.memory.forward(decoder, level, job.recording and level.keep_step)
        ctx.images = [images] if kept else []
        finite.note("the decoder", [images])
        finite.check()
        return images.detach()

    @staticmethod
    @first_order
    @without_autocast
    def backward(ctx: Any, dimages: Tensor) -> tuple[Tensor | None, ...]:
        job, leaves = ctx.job, ctx.leaves
        memory = job.memory
        if not ctx.ready:
            raise RuntimeError("the sampler's backward ran before and freed what it kept; call the sampler again")
        ctx.ready = False
        finite = Finite("backward", leaves[0].dtype)
        finite.note("the loss", [dimages])
        scale = scale_of([dimages], dimages.dtype)
        decoder = functools.partial(job.decoder, ctx.clean)
        (dclean,) = memory.backward(decoder, LEVELS[job.levels[-1]], ctx.images, [ctx.clean], [scaled(dimages, scale)])
        adjoints: list[Tensor | None] = [divided(dclean, scale), None]
        finite.note("the decoder", adjoints)
        totals = [torch.zeros_like(leaf, dtype=_wide(leaf.dtype)) if leaf.requires_grad else None for leaf in leaves]
        first = len(job.schedule.steps) - len(memory.made)
        for i in reversed(range(first, len(job.schedule.steps))):
            sample, before, outputs = memory.made.pop()
            kept = [] if outputs is None else [outputs]
            outputs = None
            scale = scale_of([adjoint for adjoint in adjoints if adjoint is not None], leaves[0].dtype)
            cotangents = [None if adjoint is None else scaled(adjoint, scale) for adjoint in adjoints]
            inputs = [tensor for tensor in (sample, before, *leaves) if tensor is not None and tensor.requires_grad]
            step = _part(job, i, sample, before, leaves, ctx.count)
            found = memory.backward(step, LEVELS[job.levels[i]], kept, inputs, cotangents)
            by_input = {id(tensor): grad for tensor, grad in zip(inputs, found, strict=True) if grad is not None}
            for leaf, total in zip(leaves, totals, strict=True):
                if total is not None and id(leaf) in by_input:
                    total.add_(divided(by_input[id(leaf)].to(total.dtype), scale))
            reached = [by_input.get(id(part)) for part in (sample, before)]
            adjoints = [None if grad is None else divided(grad, scale) for grad in reached]
            adjoints[0] = torch.zeros_like(sample) if adjoints[0] is None else adjoints[0]
            finite.note(_name(job, i), [*adjoints, *found])
        finite.check()
        grads = [None if total is None else total.to(leaf.dtype) for total, leaf in zip(totals, leaves, strict=True)]
        return None, None, adjoints[0] if ctx.needs_input_grad[2] else None, *grads


def _part(
    job: Job, i: int, sample: Tensor, before: Tensor | None, leaves: Sequence[Tensor], count: int
) -> Callable[[Level], tuple[Tensor, ...]]:
    """Return a step as a function of its storage level; the first ``count`` leaves are text, the others time shifts."""
    text, shifts = leaves[:count], leaves[count:]
    if shifts:
        each = len(shifts) // len(job.schedule.steps)
        return functools.partial(_step, job, i, sample, before, text, shifts[i * each : (i + 1) * each])
    return functools.partial(_step, job, i, sample, before, text, job.shifts[i])


def _name(job: Job, i: int) -> str:
    step = job.schedule.steps[i]
    return f"step {i + 1} of {len(job.schedule.steps)} (timestep {step.timestep:g})"


def _step(
    job: Job,
    i: int,
    sample: Tensor,
    before: Tensor | None,
    text: Sequence[Tensor],
    shifts: Sequence[Tensor],
    level: Level,
) -> tuple[Tensor, ...]:
    """Return x_{i+1}, and the prediction of the clean sample where the schedule asks for one."""
    step = job.schedule.steps[i]
    rows = sample if step.input_scale == 1.0 else step.input_scale * sample
    rows = (rows.detach() if job.mode.detached else rows).to(text[0].dtype)
    recorded = job.recording and i >= job.mode.first_step
    apart = recorded or (i == 0 and job.first_unconditional is not None)
    if job.guided and job.fixed_negative and apart and not rows.requires_grad:
        output = _parted(job, i, rows, text, shifts, level)
    else:
        output = job.denoiser(rows, text, shifts, level)
    remembered = before if step.previous else None
    following, data = guided_step(sample, output, job.coefficients[i], remembered, job.noises[i])
    return (following,) if step.data is None else (following, data)


def _parted(job: Job, i: int, rows: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor], level: Level) -> Tensor:
    """Return the denoiser's output where nothing flows back through the unconditional rows: they keep nothing."""
    batch = len(rows)
    halves = [
        ([part[half] for part in text], [part if len(part) == 1 else part[half] for part in shifts])
        for half in (slice(batch), slice(batch, None))
    ]
    unconditional = job.first_unconditional if i == 0 else None
    if unconditional is None:
        with torch.no_grad():
            unconditional = job.denoiser(rows, *halves[0], level)
    if i == 0:
        job.first_unconditional = unconditional
    return torch.cat([unconditional, job.denoiser(rows, *halves[1], level)])


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def coefficients(step: Step, guidance_scale: float) -> list[float]:
    """Return a step's row of ``ops.guided_step``."""
    data = step.data or (0.0, 0.0)
    return [guidance_scale, step.sample, step.output, step.previous, step.noise, *data, step.input_scale]
