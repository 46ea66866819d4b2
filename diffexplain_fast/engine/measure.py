"""Bytes and FLOP of a computation, counted without running it: every tensor is a fake one."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import diffexplain_fast.ops  # noqa: F401 - defines what is counted


def _attention_flops(*shapes: Any, products: int, axis: int, first: int = 0, **ignored: Any) -> int:
    """FLOP of some matrix products of attention; q and k are arguments ``first`` and the next, N their ``axis``."""
    q, k = shapes[first : first + 2]
    batch, *rest, width = q
    return products * 2 * batch * rest[0] * rest[1] * k[axis] * width


_OURS, _ATEN = torch.ops.diffexplain_fast, torch.ops.aten
_FLOPS = {
    _OURS.attention_fwd_triton: partial(_attention_flops, products=2, axis=1),
    _ATEN._scaled_dot_product_flash_attention_for_cpu: partial(_attention_flops, products=2, axis=2),
    # Scores once more, then dv, dp, dq and dk; the first argument is the output's gradient.
    _OURS.attention_bwd_triton: partial(_attention_flops, products=5, axis=1, first=1),
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: partial(_attention_flops, products=5, axis=2, first=1),
}
"""Attention that torch's counter does not know."""


class Count(NamedTuple):
    """What a forward and its backward cost.

    Attributes:
        kept: bytes saved for the backward, without arguments and weights.
        peak: most bytes alive at once, without arguments and weights.
        forward: FLOP of the forward, 2 per multiply-add; matrix products, convolutions and attention.
        total: FLOP of forward and backward, what is computed again included.
    """

    kept: int
    peak: int
    forward: int
    total: int


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations make while it is open, and the most at once.

    Attributes:
        now: bytes alive.
        peak: most bytes alive at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def known(self, *tensors: Tensor) -> None:
        """Leave the storages of these tensors out of the count.

        Args:
            *tensors: arguments and weights.
        """
        for tensor in tensors:
            self._seen.add(tensor.untyped_storage())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and count the storages that are new in its results."""
        for tensor in tree_leaves((args, kwargs)):
            if _counted(tensor):
                self.known(tensor)
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if _counted(tensor) and (storage := tensor.untyped_storage()) not in self._seen:
                self._seen.add(storage)
                size = storage.nbytes()
                self.now += size
                weakref.finalize(storage, self._gone, size)
        self.peak = max(self.peak, self.now)
        return out

    def _gone(self, size: int) -> None:
        self.now -= size


def _counted(value: Any) -> bool:
    """Whether a value is a tensor with a storage; a weight laid out for oneDNN has none that can be seen."""
    return isinstance(value, Tensor) and value.layout is torch.strided


def count(function: Callable[..., Tensor], like: Sequence[Tensor], weights: Iterable[Tensor]) -> Count:
    """Count a differentiable function's forward and backward.

    Args:
        function: of tensors that require grad.
        like: tensors with the shape, dtype and device of its arguments.
        weights: what it reads beside them; neither changed nor counted.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, ExitStack() as stack:
        inputs = [torch.empty(part.shape, dtype=part.dtype, device=part.device).requires_grad_() for part in like]
        flops = stack.enter_context(FlopCounterMode(display=False, custom_mapping=_FLOPS))
        live = stack.enter_context(LiveBytes())
        # A view of a weight becomes a fake one, so the fakes of the weights are made beforehand.
        outside = [*inputs, *(fake.from_tensor(weight) for weight in weights)]
        live.known(*outside)
        arguments = {tensor.untyped_storage()._cdata for tensor in outside}
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if isinstance(tensor, FakeTensor) and storage._cdata not in arguments:
                kept[storage._cdata] = storage.nbytes()
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            # Views, for the FLOP counter's hooks on modules cannot bear a leaf.
            out = function(*(part.view_as(part) for part in inputs))
        forward = flops.get_total_flops()
        torch.autograd.grad(out, inputs, torch.empty_like(out), allow_unused=True)
        return Count(sum(kept.values()), live.peak, forward, flops.get_total_flops())


@contextmanager
def live_bytes() -> Iterator[LiveBytes]:
    """Count the bytes of a real computation while the context is open."""
    with LiveBytes() as live:
        yield live
