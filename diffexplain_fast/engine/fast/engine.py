"""The fast engine of one sampler: lean models, what is computed once, and one call."""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffexplain_fast.engine.checkpointing import recomputing
from diffexplain_fast.engine.fast.determinism import Deterministic, determinism
from diffexplain_fast.engine.fast.heap import keep_heap
from diffexplain_fast.engine.fast.node import Eager, Runner, sample_images
from diffexplain_fast.engine.fast.replay import Given, graphed_runner, repeating_runner
from diffexplain_fast.engine.fast.retry import Retrying, Wider
from diffexplain_fast.engine.fast.trajectory import Job, coefficients
from diffexplain_fast.engine.gradients import GradientMode
from diffexplain_fast.engine.graphs.recording import Graphs
from diffexplain_fast.engine.lean.models import read_models
from diffexplain_fast.engine.lean.modules import ModuleUNet
from diffexplain_fast.engine.lean.savings import parse_savings
from diffexplain_fast.engine.lean.unet import LeanUNet
from diffexplain_fast.engine.memory.costs import fallback_notes
from diffexplain_fast.engine.memory.host import storage_key
from diffexplain_fast.engine.memory.plan import Plan, parse_bytes
from diffexplain_fast.engine.memory.planner import Limits, Planning
from diffexplain_fast.engine.memory.resident import held_tensors
from diffexplain_fast.engine.reference import Conditions
from diffexplain_fast.engine.schedules import Schedule
from diffexplain_fast.models.frozen import frozen
from diffexplain_fast.models.watch import Watch
from diffexplain_fast.ops._autocast import without_autocast


class FastEngine:
    """Lean models over a UNet and a VAE, rebuilt when either is edited.

    Args:
        unet: diffusers UNet2DConditionModel; never changed.
        vae: diffusers AutoencoderKL; never changed.
        memory: byte limit, "auto" (what is free on a CUDA device) or None.
        impl: "auto" or "reference", for every op.
        savings: "all", or names from ``SAVINGS``.
        graphs: records and replays calls; None to do so where it can be done.
        deterministic: choose algorithms that give equal bits from equal calls.
        retry_dtype: in which a float16 call that is not finite runs again, None to raise.
        host_memory: byte limit of what steps keep in host memory, None for nothing.
        reserve: bytes of ``memory`` that are the caller's, None for nothing.

    Raises:
        TypeError: ``memory``, ``host_memory`` or ``reserve`` is of another kind.
        ValueError: it is no number of bytes.
    """

    def __init__(
        self,
        unet: Any,
        vae: Any,
        memory: Any = "auto",
        impl: str = "auto",
        savings: str | Collection[str] = "all",
        graphs: Graphs | None = None,
        deterministic: bool = False,
        retry_dtype: torch.dtype | None = None,
        host_memory: Any = None,
        reserve: Any = None,
    ) -> None:
        self._savings, self._deterministic = parse_savings(savings), deterministic
        self._graphs = Graphs() if graphs is None else graphs
        self._read = partial(read_models, impl=impl, savings=self._savings)
        self._wider = None if retry_dtype is None else Wider(retry_dtype, self._read, (unet, vae))
        self._modules = (unet, vae)
        moved, others = parse_bytes(host_memory, "host_memory") or 0, parse_bytes(reserve, "reserve") or 0
        self._limits = Limits(parse_bytes(memory), memory == "auto", moved, others)
        if next(vae.parameters()).device.type == "cpu":
            keep_heap()
        self._watch: Watch | None = None
        self._shifts: dict[tuple, list[list[Tensor]]] = {}
        self._first: tuple[list[Tensor], Tensor] | None = None
        self.refresh()

    @property
    def plan(self) -> Plan | None:
        """Storage plan of the last call that recorded a graph, counted when it is asked for; None before."""
        return self._planning.plan

    @property
    def unknown(self) -> str:
        """Why a model runs through its own modules, empty if both are known."""
        return fallback_notes(self.denoiser, self.decoder)

    @property
    def implementations(self) -> str:
        """Which implementation of each op runs, and why where it is the reference."""
        return "" if isinstance(self.denoiser, ModuleUNet) else self.denoiser.raw.described()

    @property
    def retried(self) -> int:
        """How many calls ran again in a wider dtype."""
        return 0 if self._wider is None else self._wider.calls

    @property
    def graphs(self) -> str:
        """What the last call that recorded a gradient did with CUDA graphs, and why."""
        return self._graphs.state

    def refresh(self) -> None:
        """Build the lean models again if a weight, processor, hook or option has changed since."""
        if self._watch is not None and not self._watch.edited():
            return
        self.denoiser, self.decoder = self._read(*self._modules)
        with torch.inference_mode(False), torch.no_grad():
            self._watch = Watch(*self._modules)
        self._graphs.clear()
        if self._wider is not None:
            self._wider.clear()
        self._planning = Planning(self.denoiser, self.decoder, self._modules, self._limits)
        self._shifts.clear()
        self._first = None

    def _keep_less(self) -> None:
        """Memory ran out: keep less in the next calls."""
        self._limits.ease()
        self._planning.forget_plans()
        self._graphs.clear()

    @without_autocast
    def run(
        self,
        schedule: Schedule,
        conditions: Conditions,
        guidance_scale: float,
        fixed_negative: bool,
        start: Tensor,
        noises: Sequence[Tensor | None],
        mode: GradientMode,
    ) -> Tensor:
        """Return images [B, 3, H, W], about [0, 1] and unclamped, differentiable in embeddings and start noise.

        Args:
            schedule: the sampler's table.
            conditions: B rows, or 2B with the unconditional ones first.
            guidance_scale: at least 1; 1 means B rows.
            fixed_negative: no gradient is wanted for the unconditional rows.
            start: unit-variance noise [B, c, h, w].
            noises: for each step noise like ``start``, or None.
            mode: what of the loop is differentiated.

        Raises:
            ValueError: nothing fits into the byte limit.
        """
        self.refresh()
        fixed_negative = fixed_negative and "first" in self._savings
        start = start.detach() if mode.first_step > 0 else start
        timesteps, guided = schedule.timesteps(start.device), guidance_scale != 1.0
        text = self.denoiser.project(conditions.embeds)
        constant, carried = self._time(schedule, timesteps, conditions.added)
        table = [coefficients(step, guidance_scale) for step in schedule.steps]
        recording = torch.is_grad_enabled() and any(part.requires_grad for part in (start, *text, *carried))
        # Tensors made in inference mode cannot serve a later call that records a graph.
        repeats = guided and fixed_negative and not torch.is_inference_mode_enabled()
        about = _about_first(schedule, start, conditions) if repeats and isinstance(self.denoiser, LeanUNet) else []
        models, steps = (self.denoiser, self.decoder), len(schedule.steps)
        levels: Sequence[str] = ["step"] * (steps + 1)
        repeated = recording and recomputing()  # whose backward is that of the call it repeats
        if recording and not repeated:
            apart = guided and fixed_negative and not (start.requires_grad and mode.first_step == 0)
            shifts = constant[0] if constant else carried[: len(carried) // steps]
            levels = self._planning.levels(start, text, shifts, steps, mode, apart)
        job = Job(
            *models,
            schedule,
            torch.tensor(table, dtype=start.dtype, device=start.device),
            noises,
            constant,
            guided,
            fixed_negative,
            mode,
            levels,
            recording,
            None if start.requires_grad else self._known_first(about),
            self._keep_less,
            {*map(storage_key, held_tensors((*models, *self._modules)))} if "host" in levels else (),
        )
        given = start * schedule.init_noise_sigma, text, carried
        runner = self._around(Eager(job), job, given) if repeated else self._runner(job, given)
        assert self._watch is not None
        images = sample_images(runner, partial(self._again, job), self._watch, *given)
        if about and job.first_unconditional is None and runner.first_unconditional is not None:
            self._first = ([part.clone() for part in about], runner.first_unconditional)
        return images

    def _runner(self, job: Job, given: Given) -> Runner:
        """Return what runs a call: replayed or eager, and with what was asked for around it."""
        with determinism(self._deterministic):
            return self._around(graphed_runner(self._graphs, job, given, self.unknown), job, given)

    def _again(self, job: Job, *given: Any) -> Runner:
        """Return what runs a call once more, for a second backward."""
        with determinism(self._deterministic):
            return self._around(repeating_runner(self._graphs, job, given), job, given)

    def _around(self, runner: Runner, job: Job, given: Given) -> Runner:
        """Return a runner with what was asked for around it."""
        _, text, _ = given
        if self._wider is not None and text[0].dtype == torch.float16:
            runner = Retrying(runner, job, self._wider)
        return Deterministic(runner) if self._deterministic else runner

    def _time(
        self, schedule: Schedule, timesteps: Tensor, added: dict[str, Tensor] | None
    ) -> tuple[list[list[Tensor]], list[Tensor]]:
        """Return constant time shifts step by step, or a flat list of those that carry a gradient."""
        if added is None:
            key = (tuple(step.timestep for step in schedule.steps), timesteps.device)
            if key not in self._shifts or "time" not in self._savings:
                with torch.inference_mode(False), torch.no_grad():  # later calls may record a graph
                    self._shifts[key] = self.denoiser.shifts(timesteps.clone(), None)
            return self._shifts[key], []
        with frozen(self._modules[0]):
            shifts = self.denoiser.shifts(timesteps, added)
        if any(part.requires_grad for step in shifts for part in step):
            return [], [part for step in shifts for part in step]
        return shifts, []

    def _known_first(self, about: Sequence[Tensor]) -> Tensor | None:
        """Return the first step's unconditional prediction if what it follows from is what it was before."""
        if self._first is None or not about:
            return None
        before, prediction = self._first
        pairs = list(zip(before, about, strict=True))
        same = all(one.shape == two.shape for one, two in pairs) and all(torch.equal(*pair) for pair in pairs)
        return prediction if same else None


def _about_first(schedule: Schedule, start: Tensor, conditions: Conditions) -> list[Tensor]:
    """Return all that the first step's unconditional prediction follows from, besides the weights."""
    step, rows = schedule.steps[0], slice(len(start))
    numbers = start.new_tensor([step.timestep, step.input_scale, schedule.init_noise_sigma])
    added = () if conditions.added is None else conditions.added.values()
    return [numbers, *(part[rows].detach() for part in (start, conditions.embeds, *added))]
