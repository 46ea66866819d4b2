"""Running the user's modules without leaving a trace in them."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Generic, Protocol, TypeVar, cast

from torch import Tensor, nn

_One = TypeVar("_One")
_Value = TypeVar("_Value")


@contextmanager
def frozen(*modules: nn.Module, but: Collection[Tensor] = ()) -> Iterator[None]:
    """Put modules into eval mode with no parameter requiring grad while the context is open.

    A graph recorded inside leads to the inputs and to the weights in ``but`` only; its backward may run after the
    context has closed. Contexts may be open at once, one in another or in several threads: the last one to close puts
    back what the first one found.

    Args:
        *modules: every submodule's mode and every parameter's flag is put back at the end, also after an exception.
        but: parameters whose flag stays as it is, see ``trainable``.
    """
    kept = {*map(id, but)}
    with ExitStack() as stack:
        stack.enter_context(_MODES.off(part for module in modules for part in module.modules()))
        stack.enter_context(_FLAGS.off(one for module in modules for one in module.parameters() if id(one) not in kept))
        yield


class Adapted(Protocol):
    """What PEFT's layers over a module's own have."""

    base_layer: nn.Module
    merged: bool
    disable_adapters: bool
    active_adapters: Sequence[str]
    adapter_layer_names: Sequence[str]


_ENCODER = ("encoder.", "quant_conv.")
"""Parts of an autoencoder that no sampler runs."""


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that a gradient is wanted for: those that require grad and act in the sampler.

    A model in eval mode all of whose parameters require grad is one as it was loaded: nobody has chosen any, so no
    gradient is wanted. In training mode all of them are trained.

    Args:
        model: a UNet, or an autoencoder, of which only what decodes acts.
    """
    named = dict(model.named_parameters())
    if not model.training and all(weight.requires_grad for weight in named.values()):
        return []
    wanted = {name: weight for name, weight in named.items() if weight.requires_grad}
    idle = _idle(model) if wanted else set()
    return [weight for name, weight in wanted.items() if not name.startswith(_ENCODER) and id(weight) not in idle]


def _idle(model: nn.Module) -> set[int]:
    """Return the ids of adapters' parameters that act on nothing: merged, disabled, or of an adapter not in use."""
    found: set[int] = set()
    for part in model.modules():
        if not hasattr(part, "base_layer") or not hasattr(part, "adapter_layer_names"):
            continue
        layer = cast(Adapted, part)
        acting = () if layer.merged or layer.disable_adapters else layer.active_adapters
        for group in (getattr(layer, name, {}) for name in layer.adapter_layer_names):
            for adapter, matrix in group.items():
                if adapter not in acting:
                    found |= {id(matrix)} if isinstance(matrix, Tensor) else {*map(id, matrix.parameters())}
    return found


@contextmanager
def unhooked(weights: Collection[Tensor]) -> Iterator[None]:
    """Take the hooks off parameters while the context is open; a gradient that is a part of the whole runs none.

    Args:
        weights: what ``Tensor.register_hook`` was called of, perhaps.
    """
    with _HOOKS.off(weights):
        yield


class _Switch(Generic[_One, _Value]):
    """A flag of objects that is off while any context is open.

    Args:
        get: reads the flag of an object.
        put: writes it.
        low: what it is when it is off.
    """

    def __init__(self, get: Callable[[_One], _Value], put: Callable[[_One, _Value], object], low: _Value) -> None:
        self._get, self._put, self._low = get, put, low
        self._lock = threading.Lock()
        self._before: dict[int, tuple[_Value, int]] = {}  # by id: what it was, and how many contexts are open

    @contextmanager
    def off(self, objects: Iterable[_One]) -> Iterator[None]:
        """Put the flag of objects off while the context is open."""
        held: list[_One] = []
        try:
            with self._lock:
                for one in objects:
                    before, contexts = self._before.get(id(one), (self._get(one), 0))
                    self._put(one, self._low)
                    self._before[id(one)] = before, contexts + 1
                    held.append(one)
            yield
        finally:
            with self._lock:
                for one in held:
                    before, contexts = self._before.pop(id(one))
                    if contexts > 1:
                        self._before[id(one)] = before, contexts - 1
                    else:
                        self._put(one, before)


_MODES = _Switch[nn.Module, bool](
    lambda part: part.training, lambda part, value: setattr(part, "training", value), False
)
_FLAGS = _Switch[nn.Parameter, bool](
    lambda weight: weight.requires_grad, lambda weight, value: weight.requires_grad_(value), False
)
_HOOKS = _Switch[Tensor, object](
    lambda weight: weight._backward_hooks, lambda weight, value: setattr(weight, "_backward_hooks", value), None
)
