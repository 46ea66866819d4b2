"""Calls of the sampler that replay a recording of a whole call, forward and backward."""

from collections.abc import Hashable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from diffexplain_fast.engine.fast.runner import Eager, Runner
from diffexplain_fast.engine.fast.trajectory import Job, Trajectory
from diffexplain_fast.engine.graphs.agreement import multiplied, one_unit_away, rounding_unit
from diffexplain_fast.engine.graphs.policy import Graphs
from diffexplain_fast.engine.graphs.recorder import Recorder
from diffexplain_fast.engine.graphs.recording import (
    Backward,
    Forward,
    Gradients,
    Outcome,
    Recording,
    Trial,
    Use,
    kind_of,
    static_copy,
)

CallTensors = tuple[Tensor, Sequence[Tensor], Sequence[Tensor]]
"""Start, text and time shifts of a call, as in ``Trajectory.forward``."""


class Replay(Use):
    """A call that replays a recording.

    Args:
        recording: recording of a call of the same kind.
        job: the call.
    """

    def __init__(self, recording: Recording, job: Job) -> None:
        self._recording, self._job = recording, job
        recording.taken(self)

    def forward(self, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> Tensor:
        """Return images; see ``Runner``."""
        self._recording.fill(_all_tensors(self._job, start, text, shifts))
        (images,) = self._recording.forward()
        return images

    def backward(self, dimages: Tensor) -> list[Tensor | None]:
        """Return gradients; see ``Runner``."""
        self.done = True
        return self._recording.backward([dimages])


def graphed_runner(graphs: Graphs, job: Job, tensors: CallTensors, unknown: str) -> Runner:
    """Return the runner of a call: a replay, or the call operation by operation.

    Args:
        graphs: decides whether the call is recorded or replayed.
        job: the call.
        tensors: start, text and shifts of the call.
        unknown: why a model runs through its own modules, empty if none does.

    Raises:
        ValueError: the caller asked for graphs by True, and this call cannot be recorded.
    """
    if not job.recording:
        return Eager(job)
    # Hooks and Python state of a user's own modules would not run in a replay.
    device = tensors[0].device
    obstacle = graphs.obstacle(device) or ("steps are kept in host memory" if "host" in job.levels else unknown)
    obstacle = obstacle or ("weights of the models get a gradient" if job.trained.every else "")
    recording = graphs.recording(device, obstacle, lambda: _kind(job, *tensors), lambda by: _record(job, tensors, by))
    return Eager(job) if recording is None else Replay(recording, job)


def repeating_runner(graphs: Graphs, job: Job, tensors: CallTensors) -> Runner:
    """Return the runner that repeats a call for a second backward: a replay if there is a recording, never a new one.

    Args:
        graphs: has the recording.
        job: the call.
        tensors: start, text and shifts of the call.
    """
    recording = None if job.trained.every else graphs.ready(tensors[0].device, lambda: _kind(job, *tensors))
    return Eager(job) if recording is None else Replay(recording, job)


def _record(job: Job, tensors: CallTensors, recorder: Recorder) -> Recording:
    static = [static_copy(tensor) for tensor in _all_tensors(job, *tensors)]
    static_job, inputs = _with_tensors(job, tensors, static)

    def ways() -> tuple[Forward, Backward]:
        trajectory = Trajectory(static_job)

        def forward() -> Outcome:
            images, finite = trajectory.forward(*inputs)
            return Outcome([images], finite=finite)

        def backward(cotangents: Sequence[Tensor]) -> Gradients:
            grads, finite = trajectory.backward(*cotangents)
            return Gradients(grads, finite)

        return forward, backward

    return Recording(static, ways, recorder, _trial(job, tensors))


def _trial(job: Job, tensors: CallTensors) -> Trial:
    """Return contents that are as large as those of a call and give other results: signs change at random.

    Of the coefficients only the guidance scale changes, as between two calls of one kind. No coefficient is moved by a
    unit of rounding, because the coefficients are few and all numbers of a step would move alike.
    """
    unit = rounding_unit([tensor.dtype for tensor in tensors[1]], tensors[0].device)
    table = torch.cat([0.75 * job.coefficients[:, :1], job.coefficients[:, 1:]], dim=1)
    contents, nearby = [], []
    for tensor in _all_tensors(job, *tensors):
        (other,) = [table] if tensor is job.coefficients else multiplied([tensor], 1.0, -1.0)
        contents.append(other)
        nearby += [table] if other is table else one_unit_away([other], unit)
    return Trial(contents, nearby, unit)


def _all_tensors(job: Job, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> list[Tensor]:
    """Return all tensors of a call except the weights; calls of one kind have lists of equal form."""
    noises = [noise for noise in job.noises if noise is not None]
    return [start, *text, *shifts, job.coefficients, *noises]


def _with_tensors(job: Job, tensors: CallTensors, static: Sequence[Tensor]) -> tuple[Job, CallTensors]:
    """Return a call over static tensors, which lets memory errors through, and its start, text and shifts."""
    left, (_, text, shifts) = iter(static), tensors
    inputs = next(left), [next(left) for _ in text], [next(left) for _ in shifts]
    static_job = replace(
        job,
        coefficients=next(left),
        noises=[None if noise is None else next(left) for noise in job.noises],
        on_running_out=None,
    )
    return static_job, inputs


def _kind(job: Job, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> Hashable:
    return (
        (job.schedule, job.guidance_rescale, job.split_guidance, job.mode, tuple(job.levels)),
        kind_of(_all_tensors(job, start, text, shifts)),
        (len(text), len(shifts), tuple(noise is None for noise in job.noises)),
    )
