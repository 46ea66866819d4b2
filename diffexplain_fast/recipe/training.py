"""The one training loop of the recipe: seeded batches, cosine rate with warm-up, averaged weights, checkpoints."""

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset

from diffexplain_fast.storage import load_tensors, save_tensors_atomic

log = logging.getLogger(__name__)
_WORKERS, _PREFETCH = 4, 4
"""Processes that draw batches for a card, and how many batches each is ahead."""
_EAGER = 3
"""Steps before one is recorded: libraries choose their kernels in the first."""


class Plan(NamedTuple):
    """How long and how fast one model is trained.

    Attributes:
        steps: optimiser steps.
        batch: samples per step.
        rate: peak learning rate of AdamW.
        decay: weight decay.
        average: decay of the running average of the weights; 0 keeps the last weights.
        half: run the forward pass in bfloat16 autocast, on a card or a processor that computes in bfloat16.
        save_every: steps between checkpoints.
    """

    steps: int
    batch: int
    rate: float
    decay: float = 1e-4
    average: float = 0.0
    half: bool = False
    save_every: int = 250


Batch = dict[str, torch.Tensor]


class Loss(NamedTuple):
    """The loss of a model, in two halves, so that another process can draw a batch while a card computes.

    Attributes:
        draw: a batch, on the CPU, from the two generators of its step and nothing else that is random.
        of: the loss of a batch on the model's device, by operations that need no answer from it.
    """

    draw: Callable[[np.random.Generator, torch.Generator], Batch]
    of: Callable[[Batch], torch.Tensor]


class _Drawn(Dataset[Batch]):
    """The batches of a training by the number of their step."""

    def __init__(self, loss: Loss, seed: int) -> None:
        self._loss, self._seed = loss, seed

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self._seed, step])
        return self._loss.draw(rng, torch.Generator().manual_seed(int(rng.integers(2**62))))


def fit(
    name: str,
    model: nn.Module,
    loss: Loss,
    plan: Plan,
    folder: Path | None,
    seed: int = 0,
    later: float = 0.0,
    report: Callable[[int, int], None] | None = None,
) -> float:
    """Train ``model`` in place and return the running loss; a checkpoint in ``folder`` is continued from.

    The generators of a batch are made anew for every step from the seed and the step, so that a continued run sees
    what an uninterrupted one would have seen. At the end the model holds the averaged weights. On a card, processes
    draw the batches ahead, and one recorded graph is a step. ``later`` is how many seconds of work follow, for the log;
    ``report`` is called with the steps taken and all steps.
    """
    path = folder / f"{name}.training.safetensors" if folder else None
    steps = _Steps(model, loss, plan)
    first = steps.restore(path) if path and path.exists() else 0
    start = time.monotonic()
    model.train()
    ahead = _WORKERS if steps.device.type == "cuda" else 0
    batches = DataLoader(
        _Drawn(loss, seed),
        batch_size=None,
        sampler=range(first, plan.steps),
        num_workers=ahead,
        generator=torch.Generator(),  # the loader draws from it, and not from the user's
        multiprocessing_context="fork" if ahead else None,
        prefetch_factor=_PREFETCH if ahead else None,
    )
    for step, batch in zip(range(first, plan.steps), batches, strict=True):
        steps.take(step, batch)
        done = step + 1
        if report is not None:
            report(done, plan.steps)
        if done % 50 == 0 or done == plan.steps:
            spent = time.monotonic() - start
            left = spent / (done - first) * (plan.steps - done)
            line = "%s %d/%d loss %.4f, %.0f s; left: %.0f s here, about %.1f h in all"
            log.info(line, name, done, plan.steps, steps.running.item(), spent, left, (left + later) / 3600)
        if path and (done % plan.save_every == 0 or done == plan.steps):
            steps.save(path, done)
    steps.finish()
    return steps.running.item()


def _in_half(plan: Plan, device: str) -> bool:
    """Return whether a step runs in bfloat16: a processor that must convert every number takes six times as long."""
    return plan.half and (device != "cpu" or torch.cpu._is_avx512_bf16_supported())


def _attention(device: str, half: bool) -> AbstractContextManager[None]:
    """Return where attention is computed: on a CPU, torch's fused one takes twice as long in bfloat16 as its parts."""
    return sdpa_kernel(SDPBackend.MATH) if half and device == "cpu" else nullcontext()


class _Steps:
    """The steps of a training, its optimiser, averaged weights and running loss."""

    def __init__(self, model: nn.Module, loss: Loss, plan: Plan) -> None:
        self._model, self._loss, self._plan = model, loss, plan
        self._parameters: list[torch.Tensor] = [p for p in model.parameters() if p.requires_grad]
        self.device = self._parameters[0].device
        on_card = self.device.type == "cuda"
        rate = torch.tensor(plan.rate, device=self.device) if on_card else plan.rate
        self._optimiser = torch.optim.AdamW(
            self._parameters, lr=rate, weight_decay=plan.decay, betas=(0.9, 0.99), capturable=on_card, fused=not on_card
        )
        self._average = [p.detach().clone() for p in self._parameters] if plan.average else []
        self.running = torch.tensor(math.nan, device=self.device)
        self._share = torch.zeros((), device=self.device)
        self._on_card, self._taken = on_card, 0
        self._buffers: Batch = {}
        self._graph: torch.cuda.CUDAGraph | None = None

    def take(self, step: int, batch: Batch) -> None:
        """Take one step of the optimiser."""
        rate = self._plan.rate * _schedule(step, self._plan.steps)
        for group in self._optimiser.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._share.fill_(1 - min(self._plan.average, (1 + step) / (10 + step)))
        if self._on_card:
            self._take_on_card(batch)
        else:
            self._step({name: value.to(self.device) for name, value in batch.items()})

    def _take_on_card(self, batch: Batch) -> None:
        """Take a step from buffers that stay where they are: a few by themselves, then as a recorded graph."""
        if not self._buffers:
            self._buffers = {name: torch.empty_like(value, device=self.device) for name, value in batch.items()}
        for name, value in batch.items():
            self._buffers[name].copy_(value)
        if self._taken == _EAGER:
            self._graph = self._recorded()
        self._taken += 1
        if self._graph is None:
            self._aside()
        else:
            self._graph.replay()

    def _aside(self) -> None:
        """Take a step as it must be taken before one is recorded: on a stream of its own."""
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            self._step(self._buffers)
        torch.cuda.current_stream(self.device).wait_stream(stream)

    def _recorded(self) -> torch.cuda.CUDAGraph | None:
        """Return a step as a graph; None where that fails, so that every step is taken by itself."""
        graph = torch.cuda.CUDAGraph()
        self._optimiser.zero_grad(set_to_none=True)
        torch.cuda.synchronize(self.device)
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._step(self._buffers)
        except RuntimeError as error:
            log.warning("no graph of a step: %s", str(error).partition("\n")[0])
            return None
        return graph

    def _step(self, batch: Batch) -> None:
        device, half = self.device.type, _in_half(self._plan, self.device.type)
        # Without autocast's cache, whose copies of weights a recorded step would keep.
        with _attention(device, half), torch.autocast(device, torch.bfloat16, enabled=half, cache_enabled=False):
            value = self._loss.of(batch)
        self._optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimiser.step()
        now = value.detach().float()
        self.running.copy_(torch.where(self.running.isnan(), now, 0.98 * self.running + 0.02 * now))
        if self._average:
            with torch.no_grad():
                ahead = torch._foreach_sub(self._parameters, self._average)
                torch._foreach_mul_(ahead, self._share)
                torch._foreach_add_(self._average, ahead)

    @torch.no_grad()
    def finish(self) -> None:
        """Give the model its averaged weights and set it to eval mode."""
        for parameter, value in zip(self._parameters, self._average, strict=False):
            parameter.copy_(value)
        self._model.eval()

    def save(self, path: Path, done: int) -> None:
        """Write a checkpoint: weights, moments, averages and progress."""
        tensors = {f"model.{k}": v.contiguous() for k, v in self._model.state_dict().items()}
        for i, parameter in enumerate(self._parameters):
            state = self._optimiser.state.get(parameter)  # a weight that the loss does not reach has none
            if state:
                tensors[f"moment1.{i}"] = state["exp_avg"].contiguous()
                tensors[f"moment2.{i}"] = state["exp_avg_sq"].contiguous()
        tensors |= {f"average.{i}": value.contiguous() for i, value in enumerate(self._average)}
        tensors["progress"] = torch.tensor([done, self.running.item()], dtype=torch.float64)
        save_tensors_atomic(path, tensors)

    def restore(self, path: Path) -> int:
        """Read a checkpoint and return how many steps were done."""
        tensors = load_tensors(path)
        self._model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        done, running = tensors["progress"].tolist()
        self.running.fill_(running)
        for i, parameter in enumerate(self._parameters):
            if f"moment1.{i}" not in tensors:
                continue
            self._optimiser.state[parameter] = {
                "step": torch.tensor(float(done), device=self.device if self._on_card else None),
                "exp_avg": tensors[f"moment1.{i}"].to(parameter).clone(memory_format=torch.preserve_format),
                "exp_avg_sq": tensors[f"moment2.{i}"].to(parameter).clone(memory_format=torch.preserve_format),
            }
        for i, value in enumerate(self._average):
            value.copy_(tensors[f"average.{i}"])
        log.info("%s: continued from step %d", path.name, done)
        return int(done)


def _schedule(step: int, steps: int) -> float:
    warm = max(1, min(200, steps // 15))
    if step < warm:
        return (step + 1) / warm
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
