"""The one training loop of the recipe: seeded batches, cosine rate with warm-up, averaged weights, checkpoints."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from diffexplain_fast.storage import load_tensors, save_tensors_atomic

log = logging.getLogger(__name__)


class Plan(NamedTuple):
    """How long and how fast one model is trained.

    Attributes:
        steps: optimiser steps.
        batch: samples per step.
        rate: peak learning rate of AdamW.
        decay: weight decay.
        average: decay of the running average of the weights; 0 keeps the last weights.
        half: run the forward pass in bfloat16 autocast.
        save_every: steps between checkpoints.
    """

    steps: int
    batch: int
    rate: float
    decay: float = 1e-4
    average: float = 0.0
    half: bool = False
    save_every: int = 250


Loss = Callable[[np.random.Generator, torch.Generator], torch.Tensor]


def fit(
    name: str, model: nn.Module, loss: Loss, plan: Plan, folder: Path | None, seed: int = 0, later: float = 0.0
) -> float:
    """Train ``model`` in place and return the running loss; a checkpoint in ``folder`` is continued from.

    ``loss(rng, generator)`` draws its batch from the two generators, which are made anew for every step from the seed
    and the step, so that a continued run sees what an uninterrupted one would have seen. At the end the model holds
    the averaged weights. ``later`` is how many seconds of work follow, for the log.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=plan.rate, weight_decay=plan.decay, betas=(0.9, 0.99))
    average = [p.detach().clone() for p in parameters] if plan.average else []
    path = folder / f"{name}.training.safetensors" if folder else None
    first, running = _restore(path, model, optimiser, parameters, average) if path and path.exists() else (0, math.nan)
    device = parameters[0].device
    start = time.monotonic()
    model.train()
    for step in range(first, plan.steps):
        rate = plan.rate * _schedule(step, plan.steps)
        for group in optimiser.param_groups:
            group["lr"] = rate
        rng = np.random.default_rng([seed, step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=plan.half):
            value = loss(rng, generator)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        running = value.item() if math.isnan(running) else 0.98 * running + 0.02 * value.item()
        if average:
            decay = min(plan.average, (1 + step) / (10 + step))
            torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)
        done = step + 1
        if done % 50 == 0 or done == plan.steps:
            spent = time.monotonic() - start
            left = spent / (done - first) * (plan.steps - done)
            line = "%s %d/%d loss %.4f, %.0f s; left: %.0f s here, about %.1f h in all"
            log.info(line, name, done, plan.steps, running, spent, left, (left + later) / 3600)
        if path and (done % plan.save_every == 0 or done == plan.steps):
            _save(path, model, optimiser, parameters, average, done, running)
    with torch.no_grad():
        for parameter, value in zip(parameters, average, strict=False):
            parameter.copy_(value)
    model.eval()
    return running


def _schedule(step: int, steps: int) -> float:
    warm = max(1, min(200, steps // 15))
    if step < warm:
        return (step + 1) / warm
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def _save(
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    parameters: Sequence[torch.Tensor],
    average: list[torch.Tensor],
    done: int,
    running: float,
) -> None:
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    for i, parameter in enumerate(parameters):
        state = optimiser.state.get(parameter)  # a weight that the loss does not reach has none
        if state:
            tensors |= {f"moment1.{i}": state["exp_avg"].contiguous(), f"moment2.{i}": state["exp_avg_sq"].contiguous()}
    tensors |= {f"average.{i}": value.contiguous() for i, value in enumerate(average)}
    tensors["progress"] = torch.tensor([done, running], dtype=torch.float64)
    save_tensors_atomic(path, tensors)


def _restore(
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    parameters: Sequence[torch.Tensor],
    average: list[torch.Tensor],
) -> tuple[int, float]:
    tensors = load_tensors(path)
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    done, running = tensors["progress"].tolist()
    for i, parameter in enumerate(parameters):
        if f"moment1.{i}" not in tensors:
            continue
        optimiser.state[parameter] = {
            "step": torch.tensor(float(done)),
            "exp_avg": tensors[f"moment1.{i}"].to(parameter).clone(memory_format=torch.preserve_format),
            "exp_avg_sq": tensors[f"moment2.{i}"].to(parameter).clone(memory_format=torch.preserve_format),
        }
    for i, value in enumerate(average):
        value.copy_(tensors[f"average.{i}"])
    log.info("%s: continued from step %d", path.name, done)
    return int(done), running
