"""The first call on a card: its Triton kernels are known before it runs, so all of them are compiled at once.

A shortened twin of the call runs on the meta device, where launches are noted and nothing is computed: a few tenths of
a second for Stable Diffusion, in which a kernel would be compiled. Threads then compile what was noted. At the launches
themselves each kernel would wait for the one before, which takes minutes on a fresh machine.
"""

import functools
import logging
import time
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.fast.trajectory import Job, Trajectory
from diffexplain_fast.engine.lean.unet import LeanUNet
from diffexplain_fast.engine.memory.counting import Counting, Options, Results, hollow, meta_twin, unwatched
from diffexplain_fast.engine.memory.flop import Arguments
from diffexplain_fast.engine.memory.resident import held_tensors
from diffexplain_fast.environment import may_precompile, processors
from diffexplain_fast.ops._precompile import compile_kinds, launches_of

if TYPE_CHECKING:
    from torch._ops import OpOverload

    from diffexplain_fast.ops._precompile import Launched

log = logging.getLogger(__name__)
_Model = TypeVar("_Model")


class FirstCall:
    """Compiles the kernels of the first call with a gradient and of the first one without, of each dtype and device.

    Later calls with other sizes have the same kernels, except a few, which are compiled at their launch.

    Attributes:
        devices: types of device that Triton's kernels run on.
    """

    devices: tuple[str, ...] = ("cuda",)

    def __init__(self) -> None:
        self._seen: set[Hashable] = set()

    def prepare(
        self, job: Job, modules: Sequence[nn.Module], start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]
    ) -> None:
        """Compile the kernels of a call, unless a call of this kind was prepared before; a failure is only logged.

        Args:
            job: the call; a model that runs through its own modules launches nothing that is compiled here.
            modules: the user's UNet and VAE, which the models refer to.
            start: start latents; this and the other tensors are those of ``Trajectory.forward``.
            text: projected text.
            shifts: time shifts.
        """
        device, denoiser = start.device, job.denoiser
        kind = (job.recording, device, text[0].dtype)
        if device.type not in self.devices or kind in self._seen or not may_precompile():
            return
        self._seen.add(kind)
        if job.decoder.reason or not isinstance(denoiser, LeanUNet) or denoiser.raw.chosen("geglu") != "triton":
            return
        began = time.monotonic()
        try:
            launches = traced_launches(job, modules, start, text, shifts)
            count, problems = compile_kinds(launches, processors(), functools.partial(torch.cuda.device, device))
        except Exception as error:  # the call itself does not need this, whatever Triton's versions and drivers raise
            count, problems = 0, [error]
        if problems:
            log.warning(
                "kernels are compiled one by one at their first launch, because compiling them together failed: %s: %s",
                type(problems[0]).__name__,
                problems[0],
            )
        elif count:
            log.info("%d Triton kernels were ready after %.1f s", count, time.monotonic() - began)


@unwatched()
def traced_launches(
    job: Job, modules: Sequence[nn.Module], start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]
) -> "list[Launched]":
    """Return the launches of a call, of which each kind of step is taken once; arguments as in ``prepare``."""
    places = _different_steps(job)
    each = len(shifts) // len(job.schedule.steps)
    twin = replace(
        job,
        denoiser=_hollow(job.denoiser, modules[0]),
        decoder=_hollow(job.decoder, modules[1]),
        schedule=replace(job.schedule, steps=tuple(job.schedule.steps[i] for i in places)),
        coefficients=job.coefficients[places].to("meta"),
        noises=[None if (noise := job.noises[i]) is None else meta_twin(noise) for i in places],
        levels=[_without_host(level) for level in (*(job.levels[i] for i in places), job.levels[-1])],
        mode=replace(job.mode, first_step=sum(i < job.mode.first_step for i in places)),
        on_running_out=None,
        held=(),
        step_impl="triton",
    )
    chosen = [meta_twin(shift) for i in places for shift in shifts[i * each : (i + 1) * each]]
    launchers = _Launchers()
    with torch.inference_mode(False), launchers:
        trajectory = Trajectory(twin)
        images, _ = trajectory.forward(meta_twin(start), [meta_twin(keys) for keys in text], chosen)
        if job.recording:
            trajectory.backward(torch.empty_like(images))
    return launchers.launches


class _Launchers(Counting):  # type: ignore[no-untyped-call]
    """Notes what the launchers of the package's kernels would launch for each operation on meta tensors.

    Attributes:
        launches: the launches, in order.
    """

    def __init__(self) -> None:
        super().__init__(Results())
        self.launches: list[Launched] = []

    def run(self, func: "OpOverload", args: Arguments, kwargs: Options) -> object:
        """Return the results of an operation, and note its launches."""
        out = super().run(func, args, kwargs)
        self.launches += launches_of(func, args, kwargs)
        return out


def _different_steps(job: Job) -> list[int]:
    """Return one step of each kind that launches other kernels, with the step before it if that one is remembered."""
    first: dict[Hashable, int] = {}
    for i, step in enumerate(job.schedule.steps):
        place = (i >= job.mode.first_step) + (i == job.mode.first_step)
        flags = (step.input_scale == 1.0, bool(step.previous), step.data is None, job.noises[i] is None)
        first.setdefault((_without_host(job.levels[i]), place, flags), i)
    remembered = {i - 1 for i in first.values() if job.schedule.steps[i].previous and i > 0}
    return sorted({*first.values(), *remembered})


def _without_host(level: str) -> str:
    """Return the level that computes the same without moving tensors to host memory."""
    return "lean" if level == "host" else level


def _hollow(model: _Model, module: nn.Module) -> _Model:
    return hollow(model, held_tensors([model]), [module])
