"""A forward and its backward, recorded and replayed.

Between two replays only the contents of static tensors change. Everything else that a call reads is part of its kind,
and a call of another kind does not replay. A recording is used only if its replay gives, for other contents than those
it was recorded with, what the same call gave operation by operation, up to rounding.
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
    """What a forward gave.

    Attributes:
        tensors: results, which carry a gradient.
        finite: a deferred check that all is finite, or None.
    """

    tensors: Sequence[Tensor]
    finite: Finite | None = None


class Gradients(NamedTuple):
    """What a backward gave.

    Attributes:
        tensors: a gradient for each input, None where it has none.
        finite: a deferred check that all is finite, or None.
    """

    tensors: Sequence[Tensor | None]
    finite: Finite | None = None


class Agreement(NamedTuple):
    """How near a replay is to the same call run operation by operation.

    Attributes:
        forward: of what the forward gave.
        gradient: of what the backward gave.
    """

    forward: Compared
    gradient: Compared


class Trial(NamedTuple):
    """What a recording is tried with before it is used.

    Attributes:
        contents: of all static tensors; so different from those of the recording that results show what a replay read.
        nearby: contents that differ from those by one unit of rounding.
        unit: relative, of rounding; see ``rounding_unit``.
    """

    contents: Sequence[Tensor]
    nearby: Sequence[Tensor]
    unit: float


Forward = Callable[[], Outcome]
Backward = Callable[[Sequence[Tensor]], Gradients]


class Recording:
    """A call of one kind, recorded.

    Args:
        static: the tensors that it reads, and that calls differ in; with memory of their own. Their contents are others
            afterwards.
        ways: makes a forward over them, and the backward that may follow it once.
        recorder: records.
        trial: what it is tried with.

    Attributes:
        agreement: of its replay with the same call.

    Raises:
        RuntimeError: it cannot be recorded.
        NonFiniteError: it is not finite in float16.
    """

    def __init__(
        self, static: Sequence[Tensor], ways: Callable[[], tuple[Forward, Backward]], recorder: Recorder, trial: Trial
    ) -> None:
        self._static = list(static)
        self._user: weakref.ref[Use] | None = None
        with torch.no_grad():
            recorded = [part.detach().clone() for part in static]
            self.fill(trial.nearby)
            moved = recorder.warm(lambda: _once(*ways()))
            self.fill(trial.contents)
            wanted = recorder.warm(lambda: _once(*ways()))
            self.fill(recorded)
            forward, backward = ways()
            self._replay_forward, self._made = recorder.record(forward)
            self._cotangents = [torch.zeros_like(made) for made in self._made.tensors]
            self._replay_backward, self._grads = recorder.record(lambda: backward(self._cotangents))
            self.fill(trial.contents)
            made = self.forward()
            grads = self.backward(made)
        self.agreement = Agreement(
            compare(made, wanted[0], moved[0], trial.unit), compare(grads, wanted[1], moved[1], trial.unit)
        )

    @property
    def busy(self) -> bool:
        """Whether a call replayed it and may still go backward."""
        user = None if self._user is None else self._user()
        return user is not None and not user.done

    def taken(self, user: "Use") -> None:
        """Note who replays it, which makes it busy."""
        self._user = weakref.ref(user)

    def fill(self, tensors: Sequence[Tensor]) -> None:
        """Copy a call's tensors to where the recording reads them."""
        with torch.no_grad():
            torch._foreach_copy_(self._static, list(tensors))

    def forward(self) -> list[Tensor]:
        """Replay the forward on what was filled in; return results of the caller's own."""
        self._replay_forward()
        _check(self._made.finite)
        return [part.clone() for part in self._made.tensors]

    def backward(self, cotangents: Sequence[Tensor]) -> list[Tensor | None]:
        """Replay the backward of the last forward; return gradients of the caller's own."""
        torch._foreach_copy_(self._cotangents, list(cotangents))
        self._replay_backward()
        _check(self._grads.finite)
        return [None if grad is None else grad.clone() for grad in self._grads.tensors]


class Use:
    """A call that replays a recording.

    Attributes:
        done: it has gone backward.
    """

    done = False


def static_copy(tensor: Tensor) -> Tensor:
    """Return a copy with the same requires_grad."""
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def kind_of(tensors: Sequence[Tensor]) -> Hashable:
    """Return what a recording fixes of tensors."""
    return tuple((part.shape, part.stride(), part.dtype, part.device, part.requires_grad) for part in tensors)


def _once(forward: Forward, backward: Backward) -> tuple[Results, Results]:
    """Return results and gradients of a call run operation by operation, with the results as their cotangents."""
    made = forward()
    _check(made.finite)
    grads = backward([part.detach() for part in made.tensors])
    _check(grads.finite)
    return made.tensors, grads.tensors


def _check(finite: Finite | None) -> None:
    if finite is not None:
        finite.check()
