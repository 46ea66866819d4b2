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

Given = tuple[Tensor, Sequence[Tensor], Sequence[Tensor]]
"""Start, text and time shifts: as in ``Trajectory.forward``."""


class Replay(Use):
    """A call that replays a recording.

    Args:
        recording: of a call of the same kind.
        job: the call.
    """

    def __init__(self, recording: Recording, job: Job) -> None:
        self._recording, self._job = recording, job
        recording.taken(self)

    def forward(self, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> Tensor:
        """Return images; see ``Runner``."""
        self._recording.fill(_tensors(self._job, start, text, shifts))
        (images,) = self._recording.forward()
        return images

    def backward(self, dimages: Tensor) -> list[Tensor | None]:
        """Return gradients; see ``Runner``."""
        self.done = True
        return self._recording.backward([dimages])


def graphed_runner(graphs: Graphs, job: Job, given: Given, unknown: str) -> Runner:
    """Return what runs a call.

    Args:
        graphs: decides.
        job: the call.
        given: its start, text and shifts.
        unknown: why a model runs through its own modules, empty if none does.

    Raises:
        ValueError: graphs are asked for, and this call cannot be recorded.
    """
    if not job.recording:
        return Eager(job)
    # Hooks and Python state of a user's own modules would not run in a replay.
    device = given[0].device
    obstacle = graphs.obstacle(device) or ("steps are kept in host memory" if "host" in job.levels else unknown)
    obstacle = obstacle or ("weights of the models get a gradient" if job.trained.every else "")
    recording = graphs.recording(device, obstacle, lambda: _kind(job, *given), lambda by: _record(job, given, by))
    return Eager(job) if recording is None else Replay(recording, job)


def repeating_runner(graphs: Graphs, job: Job, given: Given) -> Runner:
    """Return what runs a call once more, for a second backward: a replay if a recording is there, never a new one.

    Args:
        graphs: has the recording.
        job: the call.
        given: its start, text and shifts.
    """
    recording = None if job.trained.every else graphs.ready(lambda: _kind(job, *given))
    return Eager(job) if recording is None else Replay(recording, job)


def _record(job: Job, given: Given, recorder: Recorder) -> Recording:
    static = [static_copy(part) for part in _tensors(job, *given)]
    own, inputs = _with_tensors(job, given, static)

    def ways() -> tuple[Forward, Backward]:
        trajectory = Trajectory(own)

        def forward() -> Outcome:
            images, finite = trajectory.forward(*inputs)
            return Outcome([images], finite=finite)

        def backward(cotangents: Sequence[Tensor]) -> Gradients:
            grads, finite = trajectory.backward(*cotangents)
            return Gradients(grads, finite)

        return forward, backward

    return Recording(static, ways, recorder, _trial(job, given))


def _trial(job: Job, given: Given) -> Trial:
    """Return contents that are as large as a call's and give other results: signs change at random.

    Of the coefficients only the guidance scale is another, as between two calls of one kind, and none is moved by a
    unit of rounding: they are few, and all numbers of a step would move alike.
    """
    unit = rounding_unit([part.dtype for part in given[1]], given[0].device)
    table = torch.cat([0.75 * job.coefficients[:, :1], job.coefficients[:, 1:]], dim=1)
    contents, nearby = [], []
    for part in _tensors(job, *given):
        (other,) = [table] if part is job.coefficients else multiplied([part], 1.0, -1.0)
        contents.append(other)
        nearby += [table] if other is table else one_unit_away([other], unit)
    return Trial(contents, nearby, unit)


def _tensors(job: Job, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> list[Tensor]:
    """Return all tensors of a call but the weights; those of one kind have equal lists."""
    noises = [noise for noise in job.noises if noise is not None]
    return [start, *text, *shifts, job.coefficients, *noises]


def _with_tensors(job: Job, given: Given, tensors: Sequence[Tensor]) -> tuple[Job, Given]:
    """Return a job over other tensors, which lets memory errors through, and its start, text and shifts."""
    left, (_, text, shifts) = iter(tensors), given
    inputs = next(left), [next(left) for _ in text], [next(left) for _ in shifts]
    own = replace(
        job,
        coefficients=next(left),
        noises=[None if noise is None else next(left) for noise in job.noises],
        on_running_out=None,
    )
    return own, inputs


def _kind(job: Job, start: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor]) -> Hashable:
    return (
        (job.schedule, job.guidance_rescale, job.split_guidance, job.mode, tuple(job.levels)),
        kind_of(_tensors(job, start, text, shifts)),
        (len(text), len(shifts), tuple(noise is None for noise in job.noises)),
    )
