"""Predicted time of one iteration by the fast engine: its own plan, its own launches, and the rates of a card."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.engine.fast.sums import Sums
from diffexplain_fast.engine.fast.trajectory import split_guidance
from diffexplain_fast.engine.lean.levels import LEVELS, Level
from diffexplain_fast.engine.memory.costs import count_levels, make_plan
from diffexplain_fast.engine.memory.plan import Plan
from diffexplain_fast.engine.memory.tape import Kept, Memory
from diffexplain_fast.environment import extra
from diffexplain_fast.ops.guided_step import guided_step
from diffexplain_fast.prediction.launches import Launch, trace
from diffexplain_fast.prediction.parts import Parts, prepare
from diffexplain_fast.prediction.rates import GPUS, Kernel, by_kernel, milliseconds


class Prediction(NamedTuple):
    """What the model says of an iteration.

    Attributes:
        plan: what each step keeps, and the predicted peak.
        ms: milliseconds from prompt embeddings to images and back, without text encoder and classifier.
        launches_forward: of one step that keeps everything, with the scheduler's step.
        launches_backward: of its backward, without the sums of the text's gradient over the steps.
        launches: of the whole iteration.
        families: milliseconds by kind of kernel, of the whole iteration; "gaps" are between kernels.
        kernels: launches of the step that keeps everything, by kernel.
    """

    plan: Plan
    ms: float
    launches_forward: int
    launches_backward: int
    launches: int
    families: dict[str, float]
    kernels: list[Kernel]


class _Ways(NamedTuple):
    """Launches of a part forward, and of its backward with all that is computed again."""

    forward: list[Launch]
    backward: list[Launch]


def predict(
    model: str, gpu: str, *, steps: int = 20, guided: bool = True, batch: int = 1, memory: int | None = None
) -> Prediction:
    """Predict an iteration in bfloat16.

    Args:
        model: "sd15", "sd21" or "sdxl", at its own size.
        gpu: key of ``rates.GPUS``.
        steps: denoising steps, at least 1.
        guided: with unconditional rows.
        batch: images, at least 1.
        memory: byte limit, weights of UNet and VAE included; None for none.

    Raises:
        UnknownNameError: no such model.
        ValueError: nothing fits into the limit; the message says what is needed.
        ImportError: Triton is not installed, whose launchers say how often they launch.
    """
    parts = prepare(model, steps=steps, guided=guided, batch=batch, cudnn=GPUS[gpu].cudnn)
    extra("triton", "bench model", "triton")  # no extra brings it: it is there for Linux only
    plan = make_plan(count_levels(parts.denoiser, parts.decoder, parts.modules, parts.request), memory)
    *levels, head = plan.levels
    # A prompt's gradient does not reach the first step's latents; see ``split_guidance``.
    first = _step(parts, LEVELS[levels[0]], split=guided)
    ways = {level: _step(parts, LEVELS[level]) for level in {*levels[1:], "keep"}}
    ends, sums = _decoder(parts, LEVELS[head]), _text_sums(parts)
    every = [*ends.forward, *ends.backward, *first.forward, *first.backward, *sums]
    for level in levels[1:]:
        every += [*ways[level].forward, *ways[level].backward, *sums]
    families, (forward, backward) = milliseconds(every, GPUS[gpu]), ways["keep"]
    counted = (len(forward), len(backward), len(every))
    return Prediction(plan, sum(families.values()), *counted, families, by_kernel(forward, backward, GPUS[gpu]))


def _step(parts: Parts, level: Level, split: bool = False) -> _Ways:
    """Trace a step, or the first step if its unconditional rows run by themselves."""
    text = [part.detach().requires_grad_() for part in parts.request.text]
    coefficients = torch.empty(8, device="meta")

    def step(level: Level, sample: Tensor) -> Tensor:
        rows = sample.to(text[0].dtype)
        run = functools.partial(split_guidance, parts.denoiser) if split else parts.denoiser
        apart = parts.request.split_guidance and not split
        output = run(rows, text, parts.request.shifts, level.asking(text_apart=apart))
        return guided_step(sample, output, coefficients, None, None, impl="triton")[0]

    sample = _sample(parts).requires_grad_(not split)
    inputs = text if split else [sample, *text]
    return _ways(lambda level: step(level, sample), inputs, level)


def _decoder(parts: Parts, level: Level) -> _Ways:
    latents = _sample(parts)
    return _ways(lambda level: parts.decoder(latents, level), [latents], level)


def _sample(parts: Parts) -> Tensor:
    return torch.empty_like(parts.request.sample).requires_grad_()


def _text_sums(parts: Parts) -> list[Launch]:
    """Return the launches that add one step's gradient of the projected text to the sums over the steps."""
    text = [part.detach().requires_grad_() for part in parts.request.text]
    sums = Sums(text)
    grads: dict[int, Tensor | None] = {id(part): torch.empty_like(part, requires_grad=False) for part in text}
    return trace(lambda: sums.add(grads, 1.0))


def _ways(part: Callable[[Level], Tensor], inputs: Sequence[Tensor], level: Level) -> _Ways:
    """Trace a part forward and backward as the engine runs it at a level."""
    memory, kept = Memory((), None), list[Kept]()
    out: list[Tensor] = []

    def there() -> None:
        one, graph = memory.forward(part, level, keep=True)
        out.append(one)
        kept.extend([] if graph is None else [graph])

    forward = trace(there)
    cotangent = torch.empty_like(out[0])
    return _Ways(forward, trace(lambda: memory.backward(part, level, kept, inputs, [cotangent])))
