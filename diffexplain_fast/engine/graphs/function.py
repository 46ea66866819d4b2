"""Functions of tensors recorded into CUDA graphs, forward and backward, for the computation around the sampler."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.checkpointing import checkpointing
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
from diffexplain_fast.errors import wrong_type
from diffexplain_fast.models.watch import Watch, global_hooks, has_hooks
from diffexplain_fast.ops._autograd import Context, first_order, transformed

Function = Callable[..., tuple[Tensor, ...]]


class Graphed:
    """A function whose second call of a kind is recorded, and replayed by later calls, with its gradient.

    On a GPU small kernels wait for Python; a replay does not. A call runs operation by operation if it carries no
    gradient, while another call may still go backward, and if it cannot be recorded; ``state`` says why.

    Args:
        function: takes tensors and returns a tuple of tensors. The function draws no random numbers, and reads nothing
            else that changes, except the weights of ``modules``.
        *modules: modules that the function runs. After an edit, calls are recorded again; hooks prevent recording.
        graphs: decides which calls are recorded; None to record every call that can be recorded.

    Raises:
        TypeError: a module of another kind.
    """

    def __init__(self, function: Function, *modules: nn.Module, graphs: Graphs | None = None) -> None:
        for module in modules:
            if not isinstance(module, nn.Module):
                raise wrong_type("modules", "torch modules", module)
        self._function, self._modules = function, modules
        self._graphs = Graphs() if graphs is None else graphs
        self._watch: Watch | None = None
        self._hooks = ""

    @property
    def state(self) -> str:
        """Text that says whether the last call that carried a gradient was replayed, and why."""
        return self._graphs.state

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the results of the function.

        Raises:
            TypeError: the function returned something else than a tuple of tensors while it was recorded.
        """
        if transformed(*inputs) or not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)):
            return self._function(*inputs)
        if checkpointing():  # a call and its repetition must save the same tensors
            return self._function(*inputs)
        device = inputs[0].device
        obstacle = self._graphs.obstacle(device)
        if not obstacle and (self._watch is None or self._watch.edited()):
            self._graphs.clear()
            with torch.inference_mode(False), torch.no_grad():
                self._watch, self._hooks = Watch(*self._modules), _hooks(self._modules)
        recording = self._graphs.recording(
            device, obstacle or self._hooks, lambda: kind_of(inputs), lambda by: self._record(inputs, by)
        )
        if recording is None:
            return self._function(*inputs)
        results: tuple[Tensor, ...] = _Replayed.apply(  # type: ignore[no-untyped-call]
            recording, self._function, self._watch, *inputs
        )
        return results

    def _record(self, inputs: Sequence[Tensor], recorder: Recorder) -> Recording:
        static = [static_copy(tensor) for tensor in inputs]
        leaves = [tensor for tensor in static if tensor.requires_grad]

        def ways() -> tuple[Forward, Backward]:
            results: list[Tensor] = []

            def forward() -> Outcome:
                with torch.enable_grad():
                    results[:] = _checked(self._function(*static))
                return Outcome([result.detach() for result in results])

            def backward(cotangents: Sequence[Tensor]) -> Gradients:
                grads = iter(torch.autograd.grad(results, leaves, list(cotangents), allow_unused=True))
                return Gradients([next(grads) if tensor.requires_grad else None for tensor in static])

            return forward, backward

        weights = [weight for module in self._modules for weight in module.parameters()]
        unit = rounding_unit([tensor.dtype for tensor in (*inputs, *weights)], inputs[0].device)
        # Smaller numbers stay within a range that the function may need, such as that of pixels.
        contents = multiplied(inputs, 1.0, 0.5)
        with _fresh_casts():
            return Recording(static, ways, recorder, Trial(contents, one_unit_away(contents, unit), unit))


def graphed(function: Function, *modules: nn.Module, allowed: bool) -> Graphed:
    """Return a function of tensors whose calls are recorded if that is allowed and possible.

    Args:
        function: as in ``Graphed``.
        *modules: as in ``Graphed``.
        allowed: whether calls may be recorded.
    """
    return Graphed(function, *modules, graphs=Graphs("auto" if allowed else False))


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Context, recording: Recording, function: Function, watch: Watch, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.recording, ctx.use, ctx.function, ctx.watch = recording, Use(), function, watch
        ctx.save_for_backward(*inputs)  # so that a second derivative raises, and for a second backward
        recording.taken(ctx.use)
        recording.fill(inputs)
        return tuple(recording.forward())

    @staticmethod
    @first_order("a recorded function")
    def backward(ctx: Context, saved: tuple[Tensor, ...], *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.watch.edited_in_backward():
            raise RuntimeError("a module was edited between the recorded call and its backward; call it again")
        if not ctx.use.done:
            ctx.use.done = True
            return None, None, None, *ctx.recording.backward(cotangents)
        # The recording may hold another call by now, so a second backward runs the function itself once more.
        wanted = ctx.needs_input_grad[3:]
        inputs = [tensor.detach().requires_grad_(want) for tensor, want in zip(saved, wanted, strict=True)]
        with torch.enable_grad():
            results = _checked(ctx.function(*inputs))
        leaves = [tensor for tensor in inputs if tensor.requires_grad]
        grads = iter(torch.autograd.grad(results, leaves, cotangents, allow_unused=True))
        return None, None, None, *(next(grads) if want else None for want in wanted)


def _hooks(modules: Sequence[nn.Module]) -> str:
    """Return which module has hooks, which would not run in a replay; empty if none has."""
    if global_hooks():
        return "a hook on all modules"
    for module in modules:
        for name, submodule in module.named_modules():
            if has_hooks(submodule):
                return f"a hook on {name or type(module).__name__}"
    return ""


@contextmanager
def _fresh_casts() -> Iterator[None]:
    """Let ``torch.autocast`` cast at each use: a copy of a static tensor would keep the contents of an earlier call."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


def _checked(results: object) -> tuple[Tensor, ...]:
    if not isinstance(results, tuple) or not all(isinstance(result, Tensor) for result in results):
        raise wrong_type("function", "one that returns a tuple of tensors", results)
    if not all(result.requires_grad for result in results):
        raise RuntimeError("a result carries no gradient")
    return results
