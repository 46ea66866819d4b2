"""The fast engine of one sampler: lean models, the tensors that are computed once, and one call."""

from collections.abc import Collection, Hashable, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffexplain_fast.engine.checkpointing import recomputing
from diffexplain_fast.engine.fast.determinism import WithSettings, determinism
from diffexplain_fast.engine.fast.first_call import FirstCall
from diffexplain_fast.engine.fast.heap import keep_heap
from diffexplain_fast.engine.fast.node import sample_images
from diffexplain_fast.engine.fast.outside import Outside
from diffexplain_fast.engine.fast.replay import CallTensors, graphed_runner, repeating_runner
from diffexplain_fast.engine.fast.retry import Retrying, Wider
from diffexplain_fast.engine.fast.runner import Eager, OwnModules, Runner
from diffexplain_fast.engine.fast.trajectory import Job, coefficients
from diffexplain_fast.engine.gradients import Differentiated
from diffexplain_fast.engine.graphs.policy import Graphs
from diffexplain_fast.engine.lean.modules import NOT_TRAINED, Trained, fallback_notes, read_models
from diffexplain_fast.engine.lean.savings import parse_savings
from diffexplain_fast.engine.memory.host import storage_key
from diffexplain_fast.engine.memory.plan import Plan, parse_bytes
from diffexplain_fast.engine.memory.planner import Call, Limits, Planning
from diffexplain_fast.engine.memory.resident import held_tensors
from diffexplain_fast.engine.reference import Conditions
from diffexplain_fast.engine.schedules import Schedule
from diffexplain_fast.engine.search import AlgorithmSearch
from diffexplain_fast.engine.single import Models
from diffexplain_fast.models.frozen import check_thawed, trainable
from diffexplain_fast.models.watch import Watch
from diffexplain_fast.ops._autocast import without_autocast

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

_MOST_SCHEDULES = 32
"""Most schedules whose time shifts are remembered."""
_AGREEMENT = ("replay_forward_distance", "replay_forward_bound", "replay_gradient_distance", "replay_gradient_bound")


class FastEngine:
    """Lean models over a UNet and a VAE, rebuilt when either is edited.

    Args:
        unet: diffusers UNet2DConditionModel; never changed.
        vae: diffusers AutoencoderKL; never changed.
        memory: this and the arguments not listed here are those of ``DifferentiableSampler``.
        impl: "auto" or "reference", for every op.
        graphs: decides which calls are recorded and replayed; None to record every call that can be recorded.

    Raises:
        TypeError: ``memory``, ``host_memory`` or ``reserve`` is neither a number nor text.
        ValueError: one of them is not a number of bytes.
    """

    def __init__(
        self,
        unet: "UNet2DConditionModel",
        vae: "AutoencoderKL",
        memory: int | str | None = "auto",
        impl: str = "auto",
        savings: str | Collection[str] = "all",
        graphs: Graphs | None = None,
        deterministic: bool = False,
        retry_dtype: torch.dtype | None = None,
        host_memory: int | str | None = None,
        reserve: int | str | None = None,
    ) -> None:
        self._savings, self._deterministic = parse_savings(savings), deterministic
        self._graphs, self._search = Graphs() if graphs is None else graphs, AlgorithmSearch()
        self._read = partial(read_models, impl=impl, savings=self._savings)
        self._wider = None if retry_dtype is None else Wider(retry_dtype, self._read, (unet, vae))
        self._modules = (unet, vae)
        host, kept_free = parse_bytes(host_memory, "host_memory") or 0, parse_bytes(reserve, "reserve") or 0
        self._limits = Limits(parse_bytes(memory), memory == "auto", host, kept_free)
        if next(vae.parameters()).device.type == "cpu":
            keep_heap()
        self._watch: Watch | None = None
        self._trained, self._first_call = NOT_TRAINED, FirstCall()
        self._shifts: dict[Hashable, list[Tensor]] = {}
        self.refresh()

    @property
    @without_autocast
    def plan(self) -> Plan | None:
        """Storage plan of the last call that recorded a graph, counted when this is read; None before."""
        with determinism(self._deterministic):
            return self._planning.plan

    @property
    def unknown(self) -> str:
        """Why a model runs through its own modules, empty if both models are known."""
        return fallback_notes(self.denoiser, self.decoder)

    @property
    def trained(self) -> bool:
        """Whether weights of the models get a gradient."""
        return bool(self._trained.every)

    @property
    def implementations(self) -> str:
        """Which implementation of each op runs, and why where it is the reference."""
        return self.denoiser.implementations

    def record(self) -> dict[str, str | int | float | None]:
        """Return what the calls so far did.

        ``cuda_graphs`` says whether the last call that recorded a gradient used CUDA graphs, and why;
        ``retried_calls`` counts the calls that ran again in a wider dtype. The other values compare the last recording
        with the same call: relative L2 distances and their bounds, see ``graphs.agreement.Compared``; None before.
        """
        values: list[float | None] = [None] * len(_AGREEMENT)
        if (agreement := self._graphs.agreement) is not None:
            values = [*agreement.forward, *agreement.gradient]
        retried = 0 if self._wider is None else self._wider.calls
        distances = dict(zip(_AGREEMENT, values, strict=True))
        return {"cuda_graphs": self._graphs.state, "retried_calls": retried, **distances}

    def edited(self) -> bool:
        """Whether a weight, processor, hook, option or the choice of trained weights changed since the last reading."""
        return self._differs(self._trainable())

    def _differs(self, trained: Trained) -> bool:
        """Whether the models differ from those that were read, or other weights are trained."""
        same = [*map(id, trained.every)] == [*map(id, self._trained.every)]
        return self._watch is None or not same or self._watch.edited()

    def _trainable(self) -> Trained:
        return Trained(*(tuple(trainable(module)) for module in self._modules))

    def _recorded(self) -> Trained:
        """Return the weights that get a gradient in a call of the present mode of autograd."""
        if not torch.is_grad_enabled():
            return NOT_TRAINED
        check_thawed(self._trained.every)
        return self._trained

    def _splits(self, trained: Trained) -> bool:
        """Whether the unconditional rows may run by themselves if they need no gradient of their prompt.

        A trained UNet has a gradient through them too, and a hook or a processor of the user's may look at all rows, as
        prompt-to-prompt's do, which change only the second half.
        """
        return "first" in self._savings and not trained.unet and not self.denoiser.reason

    def refresh(self) -> None:
        """Build the lean models again if a weight, processor, hook or option has changed since."""
        trained = self._trainable()
        if not self._differs(trained):
            return
        self._trained = trained
        self.denoiser, self.decoder = self._read(*self._modules, trained=trained)
        with torch.inference_mode(False), torch.no_grad():
            self._watch = Watch(*self._modules, trained=trained.every)
        self._graphs.clear()
        if self._wider is not None:
            self._wider.clear()
        self._planning = Planning(self.denoiser, self.decoder, self._modules, self._limits, trained.every)
        self._shifts.clear()

    def models(self) -> Models:
        """Return the models as they are now, for calls without a loop."""
        self.refresh()
        return Models(self.denoiser, self.decoder, self._watch, self._trained.unet)

    def reserve(self, reserve: int) -> None:
        """Plan later calls with another number of bytes reserved for the caller."""
        if reserve != self._limits.reserve:
            self._limits.reserve = reserve
            self._planning.forget_plans()

    def _keep_less(self) -> None:
        """Plan the next calls with less memory, because memory ran out."""
        self._limits.ease()
        self._planning.forget_plans()
        self._graphs.clear()

    @without_autocast
    def run(
        self,
        schedule: Schedule,
        conditions: Conditions,
        guidance_scale: float,
        constant_negative: bool,
        start: Tensor,
        noises: Sequence[Tensor | None],
        mode: Differentiated,
        guidance_rescale: float = 0.0,
    ) -> Tensor:
        """Return images [B, 3, H, W], about [0, 1] and unclamped, differentiable in embeddings and start noise.

        Args:
            schedule: the sampler's table.
            conditions: B rows, or 2B with the unconditional ones first.
            guidance_scale: at least 1; 1 means B rows.
            constant_negative: whether the unconditional rows get no gradient.
            start: unit-variance noise [B, c, h, w].
            noises: for each step noise like ``start``, or None.
            mode: which part of the loop is differentiated.
            guidance_rescale: strength of ``reference.rescaled``; without effect unless there is guidance.

        Raises:
            ValueError: no plan fits into the byte limit.
        """
        self.refresh()
        start = start.detach() if mode.first_step > 0 else start
        trained = self._recorded()
        split = guidance_scale != 1.0 and constant_negative and self._splits(trained)
        text = self.denoiser.project(conditions.embeds)
        shifts = self._time(schedule, schedule.timesteps(start.device), conditions.added)
        table = [coefficients(step, guidance_scale) for step in schedule.steps]
        asked = torch.is_grad_enabled()
        recording = asked and any(each.requires_grad for each in (start, *text, *shifts, *trained.every))
        models, steps = (self.denoiser, self.decoder), len(schedule.steps)
        levels: Sequence[str] = ["step"] * (steps + 1)
        repeated = recording and recomputing()  # such a call has no backward of its own
        if recording and not repeated:
            first_split = split and not (start.requires_grad and mode.first_step == 0)
            with determinism(self._deterministic):  # under which other kernels run, which keep other tensors
                levels = self._planning.levels(Call(start, text, shifts, steps, mode, first_split))
        job = Job(
            denoiser=self.denoiser,
            decoder=self.decoder,
            schedule=schedule,
            coefficients=torch.tensor(table, dtype=start.dtype, device=start.device),
            noises=noises,
            split_guidance=split,
            mode=mode,
            levels=levels,
            recording=recording,
            on_running_out=self._keep_less,
            held={*map(storage_key, held_tensors((*models, *self._modules)))} if "host" in levels else (),
            guidance_rescale=guidance_rescale if guidance_scale != 1.0 else 0.0,
            trained=trained,
            outside=Outside(trained.every, asked),
        )
        tensors = start * schedule.init_noise_sigma, text, shifts
        with determinism(self._deterministic):
            self._first_call.prepare(job, self._modules, *tensors)
        runner = self._around(Eager(job), job, tensors) if repeated else self._runner(job, tensors)
        assert self._watch is not None
        own = bool(self.denoiser.reason)
        return sample_images(runner, partial(self._again, job), self._watch, *tensors, trained.every, job.outside, own)

    @without_autocast
    @torch.no_grad()
    def plan_for(
        self,
        schedule: Schedule,
        conditions: Conditions,
        guidance_scale: float,
        constant_negative: bool,
        start: Tensor,
        mode: Differentiated,
    ) -> Plan:
        """Return the plan of a call with a gradient of its embeddings, without running it; see ``run`` for the rest."""
        self.refresh()
        split = guidance_scale != 1.0 and constant_negative and self._splits(self._trained)
        text, steps = self.denoiser.project(conditions.embeds), len(schedule.steps)
        shifts = self._time(schedule, schedule.timesteps(start.device), conditions.added)
        with determinism(self._deterministic):
            return self._planning.plan_for(Call(start, text, shifts, steps, mode, split))

    def _runner(self, job: Job, tensors: CallTensors) -> Runner:
        """Return the runner of a call, replayed or eager, inside the runners of the options."""
        with determinism(self._deterministic):
            return self._around(graphed_runner(self._graphs, job, tensors, self.unknown), job, tensors)

    def _again(self, job: Job, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> Runner:
        """Return a runner that repeats a call, for a second backward."""
        with determinism(self._deterministic):
            return self._around(repeating_runner(self._graphs, job, (start, text, shifts)), job, (start, text, shifts))

    def _around(self, runner: Runner, job: Job, tensors: CallTensors) -> Runner:
        """Return a runner inside the runners of the options: a retry, determinism or cuDNN's search."""
        start, text, _ = tensors
        if self.unknown and self._watch is not None:
            runner = OwnModules(runner, self._watch)
        if self._wider is not None and text[0].dtype == torch.float16 and not self._trained.every:
            runner = Retrying(runner, job, self._wider)
        if self._deterministic:
            return WithSettings(runner, partial(determinism, True))
        kind = (start.shape, start.dtype, text[0].shape, text[0].dtype, job.recording)
        return WithSettings(runner, partial(self._search.on, start.device)) if self._search.repeats(kind) else runner

    def _time(self, schedule: Schedule, timesteps: Tensor, added: dict[str, Tensor] | None) -> list[Tensor]:
        """Return the time shifts of all steps in one list; they carry a gradient only with ``added``."""
        if added is None:
            key = (tuple(step.timestep for step in schedule.steps), timesteps.device)
            if len(self._shifts) >= _MOST_SCHEDULES:
                self._shifts.clear()
            if key not in self._shifts or "time" not in self._savings:
                with torch.inference_mode(False), torch.no_grad():  # later calls may record a graph
                    self._shifts[key] = list(chain(*self.denoiser.shifts(timesteps.clone(), None)))
            return self._shifts[key]
        return list(chain(*self.denoiser.shifts(timesteps, added)))
