"""A forward and its backward, recorded and replayed.

Between two replays only the contents of static tensors change. Everything else that a call reads is part of its kind,
and a call of another kind does not replay. A recording is used only if its replay with other contents gives, up to
rounding, the results of the same call run operation by operation.
"""

import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.engine.float16 import Finite
from diffexplain_fast.engine.graphs.agreement import Compared, Results, compare
from diffexplain_fast.engine.graphs.recorder import Recorder


class Outcome(NamedTuple):
    """Results of a forward.

    Attributes:
        tensors: results, which carry a gradient.
        finite: a deferred check that all parts are finite, or None.
    """

    tensors: Sequence[Tensor]
    finite: Finite | None = None


class Gradients(NamedTuple):
    """Results of a backward.

    Attributes:
        tensors: a gradient for each input, None for an input without one.
        finite: a deferred check that all parts are finite, or None.
    """

    tensors: Sequence[Tensor | None]
    finite: Finite | None = None


class Agreement(NamedTuple):
    """How near a replay is to the same call run operation by operation.

    Attributes:
        forward: comparison of the results of the forward.
        gradient: comparison of the gradients.
    """

    forward: Compared
    gradient: Compared


class Trial(NamedTuple):
    """Contents with which a recording is tried before it is used.

    Attributes:
        contents: contents of all static tensors, so different that the results show which contents a replay read.
        nearby: the same contents moved by one unit of rounding.
        unit: relative unit of rounding; see ``rounding_unit``.
    """

    contents: Sequence[Tensor]
    nearby: Sequence[Tensor]
    unit: float


Forward = Callable[[], Outcome]
Backward = Callable[[Sequence[Tensor]], Gradients]


class Recording:
    """A call of one kind, recorded.

    Args:
        static: tensors with memory of their own that hold all tensors of a call; their contents are overwritten.
        ways: makes a forward over the static tensors, and a backward that may follow once.
        recorder: records both.
        trial: contents to try the recording with.

    Attributes:
        agreement: how near the replay is to the same call.

    Raises:
        RuntimeError: the call cannot be recorded.
        NonFiniteError: the call is not finite in float16.
    """

    def __init__(
        self, static: Sequence[Tensor], ways: Callable[[], tuple[Forward, Backward]], recorder: Recorder, trial: Trial
    ) -> None:
        self._static = list(static)
        self._user: weakref.ref[Use] | None = None
        with torch.no_grad():
            recorded = [tensor.detach().clone() for tensor in static]
            self.fill(trial.nearby)
            moved = recorder.warm(lambda: _once(*ways()))
            self.fill(trial.contents)
            wanted = recorder.warm(lambda: _once(*ways()))
            self.fill(recorded)
            forward, backward = ways()
            self._replay_forward, self._outcome = recorder.record(forward)
            self._cotangents = [torch.zeros_like(result) for result in self._outcome.tensors]
            self._replay_backward, self._grads = recorder.record(lambda: backward(self._cotangents))
            self.fill(trial.contents)
            results = self.forward()
            grads = self.backward(results)
        self.agreement = Agreement(
            compare(results, wanted[0], moved[0], trial.unit), compare(grads, wanted[1], moved[1], trial.unit)
        )

    @property
    def busy(self) -> bool:
        """Whether a call that replayed the recording may still go backward."""
        user = None if self._user is None else self._user()
        return user is not None and not user.done

    def taken(self, user: "Use") -> None:
        """Note a call that replays the recording, which makes the recording busy."""
        self._user = weakref.ref(user)

    def fill(self, tensors: Sequence[Tensor]) -> None:
        """Copy a call's tensors to where the recording reads them."""
        with torch.no_grad():
            torch._foreach_copy_(self._static, list(tensors))

    def forward(self) -> list[Tensor]:
        """Replay the forward on the contents that were filled in; return copies of the results."""
        self._replay_forward()
        _check(self._outcome.finite)
        return [result.clone() for result in self._outcome.tensors]

    def backward(self, cotangents: Sequence[Tensor]) -> list[Tensor | None]:
        """Replay the backward of the last forward; return copies of the gradients."""
        torch._foreach_copy_(self._cotangents, list(cotangents))
        self._replay_backward()
        _check(self._grads.finite)
        return [None if grad is None else grad.clone() for grad in self._grads.tensors]


class Use:
    """A call that replays a recording.

    Attributes:
        done: whether the call has gone backward.
    """

    done = False


def static_copy(tensor: Tensor) -> Tensor:
    """Return a copy with the same requires_grad."""
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def kind_of(tensors: Sequence[Tensor]) -> Hashable:
    """Return the properties of tensors that a recording fixes."""
    return tuple((each.shape, each.stride(), each.dtype, each.device, each.requires_grad) for each in tensors)


def _once(forward: Forward, backward: Backward) -> tuple[Results, Results]:
    """Return results and gradients of a call run operation by operation, with the results as their cotangents."""
    outcome = forward()
    _check(outcome.finite)
    grads = backward([result.detach() for result in outcome.tensors])
    _check(grads.finite)
    return outcome.tensors, grads.tensors


def _check(finite: Finite | None) -> None:
    if finite is not None:
        finite.check()
