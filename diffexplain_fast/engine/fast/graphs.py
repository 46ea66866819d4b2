"""A whole call recorded into two CUDA graphs, forward and backward, and replayed for later calls of the same kind.

Between two replays only the contents of static tensors change. Everything else that a call reads is part of its kind,
and a call of another kind does not replay. A recording is used only if its replay gives what the same call gave
operation by operation.
"""

import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diffexplain_fast.engine.fast.node import Eager, Runner
from diffexplain_fast.engine.fast.recorder import CudaRecorder, Recorder
from diffexplain_fast.engine.fast.trajectory import Job, Trajectory
from diffexplain_fast.errors import NonFiniteError, wrong_value

_AGREEMENT = 0.05
"""Relative L2 distance of a replay that is taken for the same computation: attention's backward on GPUs may sum in any
order, and what a wrong recording gives has nothing to do with what is wanted."""


class Recording:
    """A call of one kind, recorded.

    Args:
        job: the call; its tensors and those below are copied.
        start: as in ``Trajectory.forward``.
        text: as there.
        shifts: as there.
        recorder: records.

    Raises:
        RuntimeError: it cannot be recorded, or its replay gives something else.
        NonFiniteError: it is not finite in float16.
    """

    def __init__(
        self, job: Job, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor], recorder: Recorder
    ) -> None:
        self._static = [_copy(part) for part in _tensors(job, start, text, shifts)]
        own, given = _with_tensors(job, text, shifts, self._static)
        self._pending: weakref.ref[Replay] | None = None
        with torch.no_grad():
            images, *grads = recorder.warm(lambda: _once(own, given))
            self._dimages = torch.zeros_like(images)
            trajectory = Trajectory(own)
            self._replay_forward, found = recorder.record(lambda: trajectory.forward(*given))
            self._images, self._forward_finite = found
            self._first = trajectory.first_unconditional
            self._replay_backward, found = recorder.record(lambda: trajectory.backward(self._dimages))
            self._grads, self._backward_finite = found
            again = [self.forward(), *self.backward(images)]
        if not all(_agree(one, two) for one, two in zip(again, [images, *grads], strict=True)):
            raise RuntimeError("its replay gave something else than the call itself")

    @property
    def busy(self) -> bool:
        """Whether a call replayed it and may still go backward."""
        replay = None if self._pending is None else self._pending()
        return replay is not None and not replay.done

    def replay(self, job: Job) -> "Replay":
        """Return a runner for a call of the same kind, which makes it busy.

        Args:
            job: the call.
        """
        runner = Replay(self, job)
        self._pending = weakref.ref(runner)
        return runner

    def fill(self, job: Job, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> None:
        """Copy a call's tensors to where the recording reads them."""
        with torch.no_grad():
            torch._foreach_copy_(self._static, _tensors(job, start, text, shifts))

    def forward(self) -> Tensor:
        """Replay the forward on what was filled in; return images of the caller's own."""
        self._replay_forward()
        self._forward_finite.check()
        return self._images.clone()

    def first_unconditional(self) -> Tensor | None:
        """Return the first step's unconditional prediction in the last forward, None if it is not apart."""
        return None if self._first is None else self._first.clone()

    def backward(self, dimages: Tensor) -> list[Tensor | None]:
        """Replay the backward of the last forward; return gradients of the caller's own."""
        self._dimages.copy_(dimages)
        self._replay_backward()
        self._backward_finite.check()
        return [None if grad is None else grad.clone() for grad in self._grads]


class Replay:
    """A call that replays a recording.

    Args:
        recording: of a call of the same kind.
        job: the call.

    Attributes:
        first_unconditional: prediction of the unconditional rows at the first step, once it is known.
        done: it has gone backward.
    """

    def __init__(self, recording: Recording, job: Job) -> None:
        self._recording, self._job, self.done = recording, job, False
        self.first_unconditional = job.first_unconditional

    def forward(self, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> Tensor:
        """Return images; see ``Runner``."""
        self._recording.fill(self._job, start, text, shifts)
        images = self._recording.forward()
        if self.first_unconditional is None:
            self.first_unconditional = self._recording.first_unconditional()
        return images

    def backward(self, dimages: Tensor) -> list[Tensor | None]:
        """Return gradients; see ``Runner``."""
        self.done = True
        return self._recording.backward(dimages)


class Graphs:
    """Decides which calls are recorded and replayed: the second of two calls of one kind is recorded, once.

    One recording is held at a time, for it holds the memory of a whole call.

    Args:
        wanted: True, False, or "auto": where it can be done.
        recorder: what records.

    Attributes:
        state: what the last call did and why, as text.
    """

    def __init__(self, wanted: bool | str = "auto", recorder: type[Recorder] = CudaRecorder) -> None:
        self._wanted, self._recorder = wanted, recorder
        self.state = "no call yet"
        self.clear()

    def clear(self) -> None:
        """Forget everything: the models are others, or memory ran out."""
        self._recording: Recording | None = None
        self._kind: tuple | None = None
        self._failed: dict[tuple, str] = {}

    def runner(
        self, job: Job, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor], unknown: str = ""
    ) -> Runner:
        """Return what runs a call.

        Args:
            job: the call.
            start: as in ``Trajectory.forward``.
            text: as there.
            shifts: as there.
            unknown: why a model runs through its own modules, empty if none does.

        Raises:
            ValueError: graphs are asked for by True, and this call cannot be recorded.
        """
        if not job.recording:
            return Eager(job)
        obstacle = self._obstacle(job, start.device, unknown)
        if obstacle:
            return self._eager(job, obstacle)
        kind = _kind(job, start, text, shifts)
        if kind != self._kind:
            self._recording, self._kind = None, kind
            self.state = "eager: the first call of its kind"
            return Eager(job)
        if self._recording is None and kind not in self._failed:
            try:
                self._recording = Recording(job, start, text, shifts, self._recorder(start.device))
            except (RuntimeError, NonFiniteError) as problem:  # out of memory, too, and what cannot be recorded
                self._failed[kind] = f"recording failed: {str(problem).strip().partition(chr(10))[0]}"
        if self._recording is None:
            return self._eager(job, self._failed[kind])
        if self._recording.busy:
            self.state = "eager: the call before may still go backward through the recording"
            return Eager(job)
        self.state = "replayed"
        return self._recording.replay(job)

    def _eager(self, job: Job, obstacle: str) -> Runner:
        if self._wanted is True:
            raise wrong_value("cuda_graphs", "a call that can be recorded, or 'auto'", obstacle)
        self.state = f"eager: {obstacle}"
        return Eager(job)

    def _obstacle(self, job: Job, device: torch.device, unknown: str) -> str:
        """Return why a call is not recorded, nothing if it is."""
        if self._wanted is False:
            return "switched off"
        if device.type not in self._recorder.devices:
            return f"graphs need tensors on a CUDA device, not on {device}"
        if "host" in job.levels:
            return "steps are kept in host memory"
        # Their hooks and Python state would not run in a replay.
        return unknown


def _once(job: Job, given: tuple[Tensor, list[Tensor], list[Tensor]]) -> list[Any]:
    """Return images and gradients of a call run eager, with the images as their gradient."""
    eager = Eager(job)
    images = eager.forward(*given)
    return [images, *eager.backward(images)]


def _tensors(job: Job, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> list[Tensor]:
    """Return all tensors of a call but the weights; those of one kind have equal lists."""
    constant = [shift for step in job.shifts for shift in step]
    known = () if job.first_unconditional is None else (job.first_unconditional,)
    noises = [noise for noise in job.noises if noise is not None]
    return [start, *text, *shifts, job.coefficients, *noises, *constant, *known]


def _with_tensors(
    job: Job, text: Sequence[Tensor], shifts: Sequence[Tensor], tensors: Sequence[Tensor]
) -> tuple[Job, tuple[Tensor, list[Tensor], list[Tensor]]]:
    """Return a job over other tensors, which lets memory errors through, and its start, text and shifts."""
    left = iter(tensors)
    given = next(left), [next(left) for _ in text], [next(left) for _ in shifts]
    own = replace(
        job,
        coefficients=next(left),
        noises=[None if noise is None else next(left) for noise in job.noises],
        shifts=[[next(left) for _ in step] for step in job.shifts],
        first_unconditional=None if job.first_unconditional is None else next(left),
        on_running_out=None,
    )
    return own, given


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def _kind(job: Job, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> tuple:
    """Return all that a recording fixes: two calls with equal ones differ in the contents of tensors alone."""
    cuda: Any = torch.backends.cuda
    cudnn: Any = torch.backends.cudnn
    settings = (
        cuda.matmul.fp32_precision,
        cuda.matmul.allow_fp16_reduced_precision_reduction,
        cuda.matmul.allow_bf16_reduced_precision_reduction,
        (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision),
        torch.are_deterministic_algorithms_enabled(),
    )
    tensors = _tensors(job, start, text, shifts)
    return (
        settings,
        (job.schedule, job.guided, job.fixed_negative, job.mode, tuple(job.levels)),
        tuple((part.shape, part.stride(), part.dtype, part.device, part.requires_grad) for part in tensors),
        (len(text), len(shifts), tuple(map(len, job.shifts)), tuple(noise is None for noise in job.noises)),
        job.first_unconditional is None,
    )


def _agree(one: Tensor | None, two: Tensor | None) -> bool:
    """Whether two results are those of the same computation."""
    if one is None or two is None:
        return one is two
    return bool((one - two).float().norm() <= _AGREEMENT * two.float().norm())
