"""A forward and its backward, recorded; which calls are recorded and replayed.

Between two replays only the contents of static tensors change. Everything else that a call reads is part of its kind,
and a call of another kind does not replay. A recording is used only if its replay gives what the same call gave
operation by operation.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.engine.float16 import Finite
from diffexplain_fast.engine.graphs.recorder import CudaRecorder, Recorder
from diffexplain_fast.errors import NonFiniteError, wrong_value

_AGREEMENT = 0.05
"""Relative L2 distance of a replay that is taken for the same computation: attention's backward on GPUs may sum in any
order, and what a wrong recording gives has nothing to do with what is wanted."""


class Outcome(NamedTuple):
    """What a forward gave.

    Attributes:
        tensors: what carries a gradient.
        others: what carries none.
        finite: what is asked whether all is finite, None for nothing.
    """

    tensors: Sequence[Tensor]
    others: Sequence[Tensor] = ()
    finite: Finite | None = None


class Gradients(NamedTuple):
    """What a backward gave.

    Attributes:
        tensors: a gradient for each input, None where it has none.
        finite: what is asked whether all is finite, None for nothing.
    """

    tensors: Sequence[Tensor | None]
    finite: Finite | None = None


Forward = Callable[[], Outcome]
Backward = Callable[[Sequence[Tensor]], Gradients]


class Recording:
    """A call of one kind, recorded.

    Args:
        static: the tensors that it reads, and that calls differ in; with memory of their own.
        ways: makes a forward over them, and the backward that may follow it once.
        recorder: records.

    Raises:
        RuntimeError: it cannot be recorded, or its replay gives something else.
        NonFiniteError: it is not finite in float16.
    """

    def __init__(
        self, static: Sequence[Tensor], ways: Callable[[], tuple[Forward, Backward]], recorder: Recorder
    ) -> None:
        self._static = list(static)
        self._user: weakref.ref[Use] | None = None
        with torch.no_grad():
            wanted = recorder.warm(lambda: _once(*ways()))
            forward, backward = ways()
            self._replay_forward, self._made = recorder.record(forward)
            self._cotangents = [torch.zeros_like(made) for made in self._made.tensors]
            self._replay_backward, self._grads = recorder.record(lambda: backward(self._cotangents))
            made, others = self.forward()
            again = [*made, *others, *self.backward(made)]
        if not all(_agree(one, two) for one, two in zip(again, wanted, strict=True)):
            raise RuntimeError("its replay gave something else than the call itself")

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

    def forward(self) -> tuple[list[Tensor], list[Tensor]]:
        """Replay the forward on what was filled in; return results of the caller's own, and those without gradient."""
        self._replay_forward()
        _check(self._made.finite)
        return [part.clone() for part in self._made.tensors], [part.clone() for part in self._made.others]

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

    def obstacle(self, device: torch.device) -> str:
        """Return why no call on a device is recorded, nothing if some may be."""
        if self._wanted is False:
            return "switched off"
        if device.type not in self._recorder.devices:
            return f"graphs need tensors on a CUDA device, not on {device}"
        return ""

    def recording(
        self,
        device: torch.device,
        obstacle: str,
        kind: Callable[[], tuple],
        record: Callable[[Recorder], Recording],
    ) -> Recording | None:
        """Return a recording that a call replays, None if the call runs operation by operation.

        Args:
            device: of the call's tensors.
            obstacle: why this call cannot be recorded, on this device or at all; nothing if it can.
            kind: all that a recording fixes: calls with equal ones differ in the contents of tensors alone.
            record: records a call of this kind.

        Raises:
            ValueError: graphs are asked for by True, and this call cannot be recorded.
        """
        if obstacle:
            self._eager(obstacle)
            return None
        found = (_settings(), kind())
        if found != self._kind:
            self._recording, self._kind = None, found
            self.state = "eager: the first call of its kind"
            return None
        if self._recording is None and found not in self._failed:
            try:
                self._recording = record(self._recorder(device))
            except (RuntimeError, NonFiniteError) as problem:  # out of memory, too, and what cannot be recorded
                self._failed[found] = f"recording failed: {str(problem).strip().partition(chr(10))[0]}"
        if self._recording is None:
            self._eager(self._failed[found])
        elif self._recording.busy:
            self.state = "eager: the call before may still go backward through the recording"
        else:
            self.state = "replayed"
            return self._recording
        return None

    def ready(self, kind: Callable[[], tuple]) -> Recording | None:
        """Return a recording that replays a call now, None if there is none; a call that is repeated decides nothing.

        Args:
            kind: as in ``recording``.
        """
        if self._recording is None or self._recording.busy or (_settings(), kind()) != self._kind:
            return None
        return self._recording

    def _eager(self, obstacle: str) -> None:
        if self._wanted is True:
            raise wrong_value("cuda_graphs", "a call that can be recorded, or 'auto'", obstacle)
        self.state = f"eager: {obstacle}"


def static_copy(tensor: Tensor) -> Tensor:
    """Return a copy with the same requires_grad."""
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def kind_of(tensors: Sequence[Tensor]) -> tuple:
    """Return what a recording fixes of tensors."""
    return tuple((part.shape, part.stride(), part.dtype, part.device, part.requires_grad) for part in tensors)


def _once(forward: Forward, backward: Backward) -> list[Any]:
    """Return results and gradients of a call run operation by operation, with the results as their cotangents."""
    made = forward()
    _check(made.finite)
    grads = backward([part.detach() for part in made.tensors])
    _check(grads.finite)
    return [*made.tensors, *made.others, *grads.tensors]


def _check(finite: Finite | None) -> None:
    if finite is not None:
        finite.check()


def _settings() -> tuple:
    """Return the settings of torch that decide how a call computes."""
    cuda: Any = torch.backends.cuda
    cudnn: Any = torch.backends.cudnn
    return (
        cuda.matmul.fp32_precision,
        cuda.matmul.allow_fp16_reduced_precision_reduction,
        cuda.matmul.allow_bf16_reduced_precision_reduction,
        (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda"),
    )


def _agree(one: Tensor | None, two: Tensor | None) -> bool:
    """Whether two results are those of the same computation."""
    if one is None or two is None:
        return one is two
    if not one.is_floating_point():
        return torch.equal(one, two)
    return bool((one - two).float().norm() <= _AGREEMENT * two.float().norm())
