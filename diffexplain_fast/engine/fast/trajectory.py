"""The whole trajectory forward and backward: text and start latents in, images out, gradients back.

With o_i the denoiser's output at x_i, x_{i+1} = guided_step(x_i, o_i, d_{i-1}) and the adjoint g_i of x_i,

    g_i = (d x_{i+1} / d x_i)^T g_{i+1} + (d d_i / d x_i)^T h_i,    dL/dp = sum_i (d x_{i+1} / dp)^T g_{i+1} + ...

where h_i is the adjoint of d_i, the prediction of the clean sample, for samplers that remember it, and p is the
projected text. Steps are kept or computed again one at a time, so no graph spans two steps.
"""

import functools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.profiler import record_function

from diffexplain_fast.engine.fast.draws import Draws
from diffexplain_fast.engine.fast.outside import Outside
from diffexplain_fast.engine.fast.sums import Sums
from diffexplain_fast.engine.float16 import Finite, divided, scale_of, scaled
from diffexplain_fast.engine.gradients import Differentiated
from diffexplain_fast.engine.lean.levels import LEVELS, Level
from diffexplain_fast.engine.lean.modules import NOT_TRAINED, Trained, own_module
from diffexplain_fast.engine.lean.protocols import Decoder, Denoiser
from diffexplain_fast.engine.memory.host import storage_key
from diffexplain_fast.engine.memory.tape import KeptStep, Memory
from diffexplain_fast.engine.reference import rescaled
from diffexplain_fast.engine.schedules import Schedule, Step
from diffexplain_fast.ops.guided_step import guided_step


@dataclass(frozen=True, kw_only=True)
class Job:
    """All inputs of one call except the tensors that it is differentiated with respect to.

    Attributes:
        denoiser: lean UNet, or the user's own module.
        decoder: lean VAE decoder, or the user's own module.
        schedule: the sampler's table.
        coefficients: rows of ``ops.guided_step``, [N, 8], in the sample's dtype.
        noises: fresh noise of each step, None where the step adds none.
        split_guidance: whether the text of the unconditional rows, the first half of all rows, gets no gradient, so
            that they run by themselves and keep nothing wherever nothing flows back through the latents either.
        mode: which part of the loop is differentiated.
        levels: storage level of each step by name, and of the decoder last.
        recording: whether a backward may follow.
        on_running_out: called when memory runs out, so that later calls keep less; None lets the error through.
        held: ``storage_key`` of tensors that stay allocated, such as weights; never moved to host memory.
        guidance_rescale: strength of ``reference.rescaled``; 0 for none.
        trained: parameters of denoiser and decoder that get a gradient.
        step_impl: implementation of ``ops.guided_step``.
        draws: random numbers of the user's own modules, the same whenever a part of the call runs again.
        outside: the caller's tensors that the user's own modules read; those found in the forward get a gradient.
    """

    denoiser: Denoiser
    decoder: Decoder
    schedule: Schedule
    coefficients: Tensor
    noises: Sequence[Tensor | None]
    split_guidance: bool
    mode: Differentiated
    levels: Sequence[str]
    recording: bool
    on_running_out: Callable[[], None] | None = None
    held: Collection[int] = ()
    guidance_rescale: float = 0.0
    trained: Trained = NOT_TRAINED
    step_impl: str = "auto"
    draws: Draws = field(default_factory=Draws)
    outside: Outside = field(default_factory=Outside)


class Trajectory:
    """One call: forward, then backward at most once.

    Args:
        job: the call.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def forward(self, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> tuple[Tensor, Finite]:
        """Return images [B, 3, H, W] without a graph, and a deferred check that all parts are finite.

        Args:
            start: start latents [B, c, h, w], already scaled for the sampler.
            text: projected text of the denoiser.
            shifts: the denoiser's time shifts in one list, equally many for each step.
        """
        job = self._job
        job.outside.begin(start, *text, *shifts)
        inputs = [leaf.detach().requires_grad_(job.recording and leaf.requires_grad) for leaf in (*text, *shifts)]
        self._text, self._shifts, self._leaves = inputs[: len(text)], inputs[len(text) :], [*inputs, *job.trained.unet]
        self._memory = memory = Memory({*job.held, *map(storage_key, self._leaves)}, job.on_running_out)
        self._start_grad, leaf_grad = start.requires_grad, any(leaf.requires_grad for leaf in self._leaves)
        sample: Tensor = start
        before: Tensor | None = None
        sample_grad = job.recording and start.requires_grad and job.mode.first_step == 0
        finite = Finite("forward", text[0].dtype)
        for i in range(len(job.schedule.steps)):
            # Where only the decoder is trained, no step has a gradient.
            possible = i >= job.mode.first_step
            recorded = possible and (sample_grad or leaf_grad)
            level = LEVELS[job.levels[i]]
            sample = sample.detach().requires_grad_(sample_grad)
            before = None if before is None else before.detach().requires_grad_(sample_grad)
            step = self._step_function(i, sample, before)
            with record_function(f"step {i + 1}"):
                outputs, kept = memory.forward(step, level, recorded)
            finite.note(_step_name(job, i), outputs)
            if recorded or (possible and job.outside.leaves):
                memory.steps.append(KeptStep(sample, before, kept))
                sample_grad = True
            sample, before = outputs[0], outputs[1] if len(outputs) == 2 else None
        self._clean = sample.detach().requires_grad_(sample_grad)
        level = LEVELS[job.levels[-1]]
        decoder = functools.partial(_decoder(job, sample_grad), self._clean)
        with record_function("decoder"):
            images, kept = memory.forward(decoder, level, job.recording or sample_grad)
        self._images = [] if kept is None else [kept]
        finite.note("the decoder", [images])
        return images.detach(), finite

    def backward(self, dimages: Tensor) -> tuple[list[Tensor | None], Finite]:
        """Return the gradients of all inputs, and a deferred check as above.

        These are start latents, text, time shifts, trained weights and ``Outside.leaves``. A gradient is None if it is
        not wanted, and for a tensor to which no recorded step has a path.

        Args:
            dimages: gradient of the images.
        """
        job, memory, leaves = self._job, self._memory, self._leaves
        finite = Finite("backward", leaves[0].dtype)
        finite.note("the loss", [dimages])
        scale = scale_of([dimages], dimages.dtype)
        decoder, level = _decoder(job, self._clean.requires_grad), LEVELS[job.levels[-1]]
        decoder, read = functools.partial(decoder, self._clean), job.outside.leaves
        inputs = [tensor for tensor in (self._clean, *job.trained.vae, *read) if tensor.requires_grad]
        with record_function("decoder, backward"):
            grads = memory.backward(decoder, level, self._images, inputs, [scaled(dimages, scale)], bool(read))
        by_input = dict(zip(map(id, inputs), grads, strict=True))
        adjoints = _divided([by_input.get(id(self._clean)), None], scale)
        decoded = _divided([by_input.get(id(weight)) for weight in job.trained.vae], scale)
        finite.note("the decoder", [*adjoints, *decoded])
        sums = Sums([*leaves, *read])
        sums.add({id(tensor): by_input.get(id(tensor)) for tensor in read}, scale)
        first = len(job.schedule.steps) - len(memory.steps)
        for i in reversed(range(first, len(job.schedule.steps))):
            if all(adjoint is None for adjoint in adjoints):  # nothing before hands a gradient on
                memory.steps.clear()
                break
            sample, before, graph = memory.steps.pop()
            kept, graph = [] if graph is None else [graph], None
            scale = scale_of([adjoint for adjoint in adjoints if adjoint is not None], leaves[0].dtype)
            cotangents = [None if adjoint is None else scaled(adjoint, scale) for adjoint in adjoints]
            inputs = [
                tensor for tensor in (sample, before, *leaves, *read) if tensor is not None and tensor.requires_grad
            ]
            step = self._step_function(i, sample, before)
            with record_function(f"step {i + 1}, backward"):
                grads = memory.backward(step, LEVELS[job.levels[i]], kept, inputs, cotangents, bool(read))
            by_input = dict(zip(map(id, inputs), grads, strict=True))
            sums.add(by_input, scale)
            adjoints = _divided([by_input.get(id(tensor)) for tensor in (sample, before)], scale)
            finite.note(_step_name(job, i), [*adjoints, *grads])
        job.outside.close()
        totals = sums.totals()
        finite.note("the sum over the steps", totals)
        own, others = totals[: len(leaves)], totals[len(leaves) :]
        return [adjoints[0] if self._start_grad else None, *own, *decoded, *others], finite

    def _step_function(self, i: int, sample: Tensor, before: Tensor | None) -> Callable[[Level], tuple[Tensor, ...]]:
        """Return a step as a function of its storage level."""
        each = len(self._shifts) // len(self._job.schedule.steps)
        shifts = self._shifts[i * each : (i + 1) * each]
        return functools.partial(self._step, i, sample, before, self._text, shifts)

    def _step(
        self,
        i: int,
        sample: Tensor,
        before: Tensor | None,
        text: Sequence[Tensor],
        shifts: Sequence[Tensor],
        level: Level,
    ) -> tuple[Tensor, ...]:
        """Return x_{i+1}, and the prediction of the clean sample where the schedule asks for one."""
        job = self._job
        step = job.schedule.steps[i]
        rows = sample if step.input_scale == 1.0 else step.input_scale * sample
        rows = (rows.detach() if job.mode.detached else rows).to(text[0].dtype)
        recorded = job.recording and i >= job.mode.first_step
        # The sample says it also in a forward without a graph, where what is computed from it says no.
        if job.split_guidance and recorded and (job.mode.detached or not sample.requires_grad):
            output = split_guidance(job.denoiser, rows, text, shifts, level)
        else:
            own, moving = own_module(job.denoiser), sample.requires_grad and not job.mode.detached
            denoiser: Callable[..., Tensor] = job.denoiser
            if i >= job.mode.first_step:
                denoiser = job.outside.aware(denoiser, i, own, job.trained.unet, moving)
            asking = level.asking(text_apart=job.split_guidance)
            output = job.draws.alike(denoiser, i, own)(rows, text, shifts, asking)
        if job.guidance_rescale:
            unconditional, conditional = output.to(sample.dtype).chunk(2)
            guided = unconditional + job.coefficients[i, 0] * (conditional - unconditional)
            output = rescaled(guided, conditional, job.guidance_rescale)
        remembered = before if step.previous else None
        following, data = guided_step(
            sample, output, job.coefficients[i], remembered, job.noises[i], impl=job.step_impl
        )
        return (following,) if step.data is None else (following, data)


def _decoder(job: Job, moving: bool) -> Callable[[Tensor, Level], Tensor]:
    own = own_module(job.decoder)
    decoder = job.outside.aware(job.decoder, "decoder", own, job.trained.vae, moving)
    return job.draws.alike(decoder, "decoder", own)


def split_guidance(
    denoiser: Denoiser, rows: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor], level: Level
) -> Tensor:
    """Return the denoiser's output [2B, c, h, w]; the unconditional rows get no gradient, so they keep nothing.

    Args:
        denoiser: this and the other arguments are those of ``Denoiser``.
        rows: latents [B, c, h, w] without a gradient.
        text: projected text, the unconditional rows first.
        shifts: one step's time shifts.
        level: storage level of the other rows.
    """
    batch = len(rows)
    halves = [
        ([keys[half] for keys in text], [shift if len(shift) == 1 else shift[half] for shift in shifts])
        for half in (slice(batch), slice(batch, None))
    ]

    def unconditional_rows(inside: Level) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (denoiser(rows, *halves[0], inside),)

    # A step that is computed again takes these rows, which are the forward of half of all rows, as they were.
    (unconditional,) = level.kept(math.inf, unconditional_rows)
    return torch.cat([unconditional, denoiser(rows, *halves[1], level)])


def _divided(grads: Sequence[Tensor | None], scale: Tensor | float) -> list[Tensor | None]:
    return [None if grad is None else divided(grad, scale) for grad in grads]


def _step_name(job: Job, i: int) -> str:
    step = job.schedule.steps[i]
    return f"step {i + 1} of {len(job.schedule.steps)} (timestep {step.timestep:g})"


def coefficients(step: Step, guidance_scale: float) -> list[float]:
    """Return a step's row of ``ops.guided_step``."""
    data = step.data or (0.0, 0.0)
    return [guidance_scale, step.sample, step.output, step.previous, step.noise, *data, step.input_scale]
