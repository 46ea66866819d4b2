"""Bytes and FLOP of a computation, counted without running it: every tensor is on the meta device, or a fake one."""

import copy
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, Self, TypeGuard, TypeVar

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import _pop_mode_temporarily
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

import diffexplain_fast.ops  # noqa: F401 - defines the operations that are counted
from diffexplain_fast.engine.memory.columns import column_bytes, column_dtypes
from diffexplain_fast.engine.memory.flop import Arguments, flop
from diffexplain_fast.engine.memory.interrupts import uninterrupted
from diffexplain_fast.engine.memory.schemas import functional, in_place, several
from diffexplain_fast.engine.memory.workspaces import cudnn_attention_bytes

_Model = TypeVar("_Model")
Options = Mapping[str, object]
"""Arguments of an operation by keyword."""
_CONVOLUTION = torch.ops.aten.convolution.default
_CONVOLUTION_BACKWARD = torch.ops.aten.convolution_backward.default
_ATTENTION_BACKWARD = torch.ops.aten._scaled_dot_product_cudnn_attention_backward.default


class Count(NamedTuple):
    """Costs of a forward and its backward.

    Attributes:
        kept: bytes saved for the backward, without arguments and weights.
        peak: most bytes alive at once, without arguments and weights.
        forward: FLOP of the forward, 2 per multiply-add; matrix products, convolutions and attention.
        total: FLOP of forward and backward, including those that are computed again.
        operands: most bytes of one convolution's input, weight and output together, or of its input gradient's, or of
            the sums that cuDNN's attention keeps in its backward.
    """

    kept: int
    peak: int
    forward: int
    total: int
    operands: int = 0


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that operations make while it is open, and the most at once.

    Signals wait until it is closed, see ``uninterrupted``. Convolutions of the dtypes ``columns`` take columns too.

    Attributes:
        now: bytes alive.
        peak: most bytes alive at once.
    """

    def __init__(self, columns: frozenset[torch.dtype] = frozenset()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._columns = columns
        self.now = self.peak = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self._signals = ExitStack()

    def __enter__(self) -> Self:
        self._signals.enter_context(uninterrupted())
        return super().__enter__()  # type: ignore[no-any-return,no-untyped-call]

    def __exit__(self, *exception: object) -> None:
        with self._signals:
            super().__exit__(*exception)  # type: ignore[no-untyped-call]

    def known(self, *tensors: Tensor) -> None:
        """Leave the storages of these tensors, such as arguments and weights, out of the count."""
        for tensor in tensors:
            self._seen.add(tensor.untyped_storage())

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: Arguments = (), kwargs: Options | None = None
    ) -> object:
        """Run one operation and count the storages that are new in its results."""
        kwargs = kwargs or {}
        self.known(*_counted(args, kwargs.values()))
        out = self.run(func, args, kwargs)
        for tensor in _counted([out]):
            if (storage := tensor.untyped_storage()) not in self._seen:
                self._seen.add(storage)
                self.born(tensor)
        self.peak = max(self.peak, self.now + column_bytes(func, args, out, self._columns))
        return out

    def run(self, func: OpOverload, args: Arguments, kwargs: Options) -> object:
        """Return the results of an operation."""
        return func(*args, **kwargs)

    def born(self, tensor: Tensor) -> None:
        """Count the storage of a tensor, which an operation has just made, until the storage is freed."""
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        self.now += size
        weakref.finalize(storage, self._gone, size)

    def fresh(self, tensor: Tensor) -> bool:
        """Whether the storage of a tensor has not been seen."""
        return tensor.untyped_storage() not in self._seen

    def _gone(self, size: int) -> None:
        self.now -= size


_Form = tuple[torch.Size, tuple[int, ...], torch.dtype]


class Results(dict[Hashable, tuple[list[_Form], int]]):
    """Shape, strides and dtype of each result, and the FLOP, by an operation and its arguments; see ``LiveBytes``."""

    columns = frozenset[torch.dtype]()


class Counting(LiveBytes):  # type: ignore[no-untyped-call]
    """Counts FLOP too; on the meta device it runs an operation once for equal arguments.

    Args:
        results: results of known operations; more are added.

    Attributes:
        flop: FLOP so far, 2 per multiply-add; matrix products, convolutions and attention.
        operands: most bytes of one convolution's operands so far, see ``Count``.
    """

    def __init__(self, results: Results) -> None:
        super().__init__(results.columns)
        self.flop = self.operands = 0
        self._results = results

    def run(self, func: OpOverload, args: Arguments, kwargs: Options) -> object:
        """Return the results of an operation, and count its FLOP and operands."""
        out = self._run(func, args, kwargs)
        if func is _CONVOLUTION:
            self.operands = max(self.operands, sum(map(_bytes, (*args[:2], *_listed(out)))))
        elif func is _CONVOLUTION_BACKWARD:
            self.operands = max(self.operands, sum(map(_bytes, (args[0], args[2], _listed(out)[0]))))
        elif func is _ATTENTION_BACKWARD:
            self.operands = max(self.operands, cudnn_attention_bytes(args[1].shape))
        return out

    def _run(self, func: OpOverload, args: Arguments, kwargs: Options) -> object:
        key = _signature(func, args, kwargs)
        if key in self._results:
            forms, cost = self._results[key]
            self.flop += cost
            empty = [_empty(*form) for form in forms]
            return empty if several(func) else empty[0]
        out = args[0] if in_place(func) and _on_meta(args[0]) else func(*args, **kwargs)
        if func is _CONVOLUTION and out.is_meta and any(map(_channels_last, args[:2])):
            out = out.contiguous(memory_format=torch.channels_last)  # only the meta kernel forgets the layout
        cost = flop(func, args, kwargs, out) or 0
        self.flop += cost
        tensors = [result for result in _listed(out) if _plain(result) and self.fresh(result)]
        if key is not None and len(tensors) == len(_listed(out)):
            self._results[key] = [(tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors], cost
        return out


def _listed(out: object) -> Sequence[object]:
    return out if isinstance(out, tuple | list) else (out,)


def _empty(shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(shape, stride, dtype=dtype, device="meta")


def _on_meta(value: object) -> TypeGuard[Tensor]:
    return type(value) is Tensor and value.is_meta  # a fake tensor is of a class of its own


def _plain(value: object) -> TypeGuard[Tensor]:
    """Whether a value is a meta tensor with a storage of just its size."""
    if not _on_meta(value) or value.layout is not torch.strided:
        return False
    last = sum((size - 1) * step for size, step in zip(value.shape, value.stride(), strict=True))
    return value.numel() > 0 and value.untyped_storage().nbytes() == (last + 1) * value.element_size()


def _bytes(value: object) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0


def _channels_last(image: Tensor) -> bool:
    return image.is_contiguous(memory_format=torch.channels_last)


def _signature(func: OpOverload, args: Arguments, kwargs: Options) -> Hashable:
    """Return a key that determines the form of the results; None if the form may depend on more than this key."""
    if not functional(func):
        return None
    parts: list[object] = [func]
    left: list[object] = [*args, *sorted(kwargs.items())]
    for value in left:
        if _on_meta(value):
            parts.append((value.shape, value.stride(), value.dtype))
        elif isinstance(value, Tensor):
            return None
        elif isinstance(value, tuple | list):
            parts.append(len(value))
            left += value
        else:
            parts.append((type(value), value))
    return tuple(parts)


def _counted(*values: Iterable[object]) -> Iterator[Tensor]:
    """Yield the tensors with a storage at any depth of some lists; the storage of oneDNN's layouts cannot be seen."""
    left = [item for value in values for item in value]
    for value in left:
        if isinstance(value, Tensor):
            if value.layout is torch.strided:
                yield value
        elif isinstance(value, tuple | list):
            left += value


def count(
    function: Callable[..., Tensor], like: Sequence[Tensor], weights: Iterable[Tensor], results: Results | None = None
) -> Count:
    """Count a differentiable function's forward and backward.

    Meta tensors are counted as they are; fake tensors, which take much longer, stand for any others.

    Args:
        function: function of tensors that require grad.
        like: tensors with the shape, dtype and device of the arguments.
        weights: other tensors that the function reads; neither changed nor counted.
        results: results of operations in earlier counts, to save time; more are added.
    """
    weights = list(weights)
    with uninterrupted(), ExitStack() as stack:
        if any(tensor.device.type != "meta" for tensor in (*like, *weights)):
            fake = stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
            # A view of a weight becomes a fake tensor, so the fakes of the weights are made beforehand.
            weights = [fake.from_tensor(weight) for weight in weights]
        inputs = [torch.empty(each.shape, dtype=each.dtype, device=each.device).requires_grad_() for each in like]
        live = stack.enter_context(Counting(Results() if results is None else results))
        outside = [*inputs, *weights]
        live.known(*outside)
        arguments = {tensor.untyped_storage()._cdata for tensor in outside}
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if (tensor.is_meta or isinstance(tensor, FakeTensor)) and storage._cdata not in arguments:
                kept[storage._cdata] = storage.nbytes()
            return tensor

        with torch.enable_grad(), saved_tensors_hooks(pack, lambda tensor: tensor):
            out = function(*inputs)
        forward = live.flop
        torch.autograd.grad(out, inputs, torch.empty_like(out), allow_unused=True)
        return Count(sum(kept.values()), live.peak, forward, live.flop, live.operands)


@contextmanager
def unwatched() -> Iterator[None]:
    """Keep the caller's modes, hooks of saved tensors and search for NaN away from tensors without numbers."""
    with ExitStack() as stack:
        stack.enter_context(_disable_current_modes())
        for _ in range(torch._C._len_torch_function_stack()):
            stack.enter_context(_pop_mode_temporarily())
        stack.enter_context(torch.autograd.set_detect_anomaly(False))
        stack.enter_context(saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor))
        yield


def hollow(model: _Model, tensors: Iterable[Tensor], shared: Iterable[object] = ()) -> _Model:
    """Return a copy of an object whose tensors are on the meta device.

    Args:
        model: object that holds tensors at any depth.
        tensors: the tensors of the object.
        shared: objects that the copy shares with the original.
    """
    twins = {id(each): meta_twin(each) for each in tensors}
    return copy.deepcopy(model, {**{id(each): each for each in shared}, **twins})


def meta_twin(tensor: Tensor) -> Tensor:
    """Return a tensor of the same form on the meta device, which requires a gradient if the given one does."""
    return _empty(tensor.shape, tensor.stride(), tensor.dtype).requires_grad_(tensor.requires_grad)


@contextmanager
def live_bytes() -> Iterator[LiveBytes]:
    """Count the bytes of a real computation while the context is open."""
    with LiveBytes(column_dtypes(torch.device("cpu"))) as live:
        yield live
