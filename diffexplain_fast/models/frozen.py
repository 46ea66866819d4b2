"""Running the user's modules without leaving any change in them."""

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Generic, Protocol, TypeVar, cast

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from diffexplain_fast.models.attributes import HOOKS
from diffexplain_fast.models.wrapped import wrapped

_Object = TypeVar("_Object")
_Value = TypeVar("_Value")
_Module = TypeVar("_Module", bound=nn.Module)


@contextmanager
def frozen(*modules: nn.Module, but: Collection[Tensor] = ()) -> Iterator[None]:
    """Put modules into eval mode, with no parameter that requires grad, while the context is open.

    A graph recorded inside leads only to the inputs and to the weights in ``but``; its backward may run after the
    context has closed. Several contexts may be open at once, nested or in several threads: the last one to close
    restores the state from before the first one.

    Args:
        *modules: modules; the mode of every submodule and the flag of every parameter is restored at the end, also
            after an exception.
        but: parameters whose flag is not changed, see ``trainable``. Nor is the flag of a weight that has none of its
            own: one that is computed from others, as by ``torch.func.functional_call``, made in inference mode, or not
            initialised.
    """
    unchanged = {*map(id, but)}
    with ExitStack() as stack:
        stack.enter_context(_uncached())
        stack.enter_context(_MODES.off(child for module in modules for child in module.modules()))
        weights = (weight for module in modules for weight in module.parameters() if _has_flag(weight))
        stack.enter_context(_FLAGS.off(weight for weight in weights if id(weight) not in unchanged))
        yield


class _Forgetting(dict[tuple[int, str], Tensor | None]):
    """A cache that keeps nothing."""

    def __setitem__(self, key: tuple[int, str], value: Tensor | None) -> None:
        """Keep nothing."""


@contextmanager
def _uncached() -> Iterator[None]:
    """Keep weights that are computed while flags are off, and so without a graph, out of ``parametrize.cached``."""
    kept = parametrize._cache
    if not parametrize._cache_enabled or isinstance(kept, _Forgetting):
        yield
        return
    parametrize._cache = nothing = _Forgetting()
    try:
        yield
    finally:
        if parametrize._cache is nothing:  # not ended by another thread
            parametrize._cache = kept


def _has_flag(weight: Tensor) -> bool:
    """Return whether torch lets the flag ``requires_grad`` of a weight be changed, and changed back."""
    return not is_lazy(weight) and weight.is_leaf and not weight.is_inference()


def copied(module: _Module, without: Collection[object] = ()) -> _Module:
    """Return a deep copy of a module, also of one that holds computed tensors, which torch does not copy.

    Such tensors are weights that a hook computes in every run, as of pruned modules, and what a hook has stored.

    Args:
        module: module with any submodules.
        without: parts of the module that are None in the copy.
    """
    with _Copying():
        # What a deep copy's memory knows already is not copied.
        return copy.deepcopy(module, {id(part): None for part in without})


class _Copying(TorchFunctionMode):
    """Copies the values of computed tensors at any depth, such as attention maps that a processor collects."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run a function of torch, of which only the deep copy of a tensor is another."""
        tensor = args[0] if func is Tensor.__deepcopy__ else None
        if isinstance(tensor, Tensor) and not tensor.is_leaf:
            return tensor.detach().clone()  # ``copy.deepcopy`` itself remembers it
        return func(*args, **(kwargs or {}))


def without_hooks(module: nn.Module) -> nn.Module:
    """Return a copy of a module and its submodules, with the same parameters and buffers and no hook.

    A run of the copy neither runs the caller's hooks nor writes into the caller's modules.
    """
    copies: dict[int, nn.Module] = {}

    def copied(part: nn.Module) -> nn.Module:
        attributes = vars(part)
        if id(part) not in copies and type(attributes.get("_modules")) is dict:  # a scripted module has none
            twin = copies[id(part)] = object.__new__(type(part))
            vars(twin).update(attributes)
            for name in HOOKS:
                vars(twin)[name] = OrderedDict()
            children = attributes["_modules"].items()
            vars(twin)["_modules"] = {name: None if child is None else copied(child) for name, child in children}
        return copies.get(id(part), part)

    return copied(module)


class Adapted(Protocol):
    """The attributes that PEFT's adapter layers have."""

    base_layer: nn.Module
    merged: bool
    disable_adapters: bool
    active_adapters: Sequence[str]
    adapter_layer_names: Sequence[str]


_ENCODER = ("encoder.", "quant_conv.")
"""Prefixes of the weights of an autoencoder that no sampler uses."""


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that need a gradient: those that require grad and act in the sampler.

    A model in eval mode in which every parameter requires grad is in the state in which it was loaded: the user has
    not chosen any parameters, so none needs a gradient, except tensors that ``torch.func.functional_call`` puts in the
    place of parameters. In training mode, all of them are trained. A ``frozen`` context of another thread changes
    nothing here, but see ``check_thawed``; one of the calling thread does.

    Args:
        model: a UNet, or an autoencoder, of which only the decoder acts; also inside of PEFT's wrapper.
    """
    model = wrapped(model)[-1]
    named = dict(model.named_parameters())
    wanted = {name: weight for name, weight in named.items() if has_gradient(weight)}
    own = [weight for weight in named.values() if isinstance(weight, nn.Parameter)]
    if not _MODES.here(model) and all(map(has_gradient, own)):
        wanted = {name: weight for name, weight in wanted.items() if not isinstance(weight, nn.Parameter)}
    idle = _idle(model) if wanted else set()
    return [weight for name, weight in wanted.items() if not name.startswith(_ENCODER) and id(weight) not in idle]


def has_gradient(weight: nn.Parameter) -> bool:
    """Return whether a weight requires grad, as the calling thread sees it: see ``trainable``."""
    return _FLAGS.here(weight)


def check_thawed(weights: Iterable[Tensor]) -> None:
    """Refuse to compute a gradient of weights that another thread has frozen for a while, which would be lost.

    Args:
        weights: parameters that are trained, see ``trainable``.

    Raises:
        RuntimeError: torch would record no gradient of one of them.
    """
    if not all(weight.requires_grad for weight in weights):
        raise RuntimeError(
            "another thread runs the UNet or the VAE without gradients of its weights (as an Explainer does), "
            "so those that are trained here would get none; give the other thread copies of the models"
        )


def _idle(model: nn.Module) -> set[int]:
    """Return the ids of the parameters of adapters that have no effect: merged, disabled or inactive ones."""
    idle: set[int] = set()
    for module in model.modules():
        if not hasattr(module, "base_layer") or not hasattr(module, "adapter_layer_names"):
            continue
        layer = cast(Adapted, module)
        acting = () if layer.merged or layer.disable_adapters else layer.active_adapters
        for group in (getattr(layer, name, {}) for name in layer.adapter_layer_names):
            for adapter, matrix in group.items():
                if adapter not in acting:
                    idle |= {id(matrix)} if isinstance(matrix, Tensor) else {*map(id, matrix.parameters())}
    return idle


@contextmanager
def unhooked(weights: Collection[Tensor]) -> Iterator[None]:
    """Remove the hooks of parameters while the context is open, because a partial gradient must not run them.

    Args:
        weights: parameters that may have hooks from ``Tensor.register_hook``.
    """
    with _HOOKS.off(weights):
        yield


class _Switch(Generic[_Object, _Value]):
    """A flag of objects that is off while any context is open.

    Args:
        get: function that reads the flag of an object.
        put: function that writes the flag.
        low: value of the flag when it is off.
    """

    def __init__(self, get: Callable[[_Object], _Value], put: Callable[[_Object, _Value], object], low: _Value) -> None:
        self._get, self._put, self._low = get, put, low
        self._lock = threading.Lock()
        # By id: the value before, and the thread of each open context.
        self._before: dict[int, tuple[_Value, list[int]]] = {}

    def here(self, item: _Object) -> _Value:
        """Return the flag of an object as if other threads had no open context."""
        with self._lock:
            now = self._get(item)
            before, threads = self._before.get(id(item), (now, []))
            return now if threading.get_ident() in threads else before

    @contextmanager
    def off(self, objects: Iterable[_Object]) -> Iterator[None]:
        """Switch off the flag of objects while the context is open."""
        switched: list[_Object] = []
        thread = threading.get_ident()
        try:
            with self._lock:
                for item in objects:
                    now = self._get(item)
                    before, threads = self._before.get(id(item), (now, []))
                    # Noted first: an interrupt may come right after the flag is written.
                    self._before[id(item)] = before, [*threads, thread]
                    switched.append(item)
                    if now is not self._low:  # writing takes longer than reading, and most flags are off already
                        self._put(item, self._low)
            yield
        finally:
            with self._lock:
                for item in reversed(switched):  # a compiled module's mode is that of the module inside, read after it
                    before, threads = self._before.pop(id(item))
                    threads.remove(thread)
                    if threads:
                        self._before[id(item)] = before, threads
                    elif self._get(item) is not before:
                        self._put(item, before)


_MODES = _Switch[nn.Module, bool](
    lambda module: module.training, lambda module, value: setattr(module, "training", value), False
)
_FLAGS = _Switch[nn.Parameter, bool](
    lambda weight: weight.requires_grad, lambda weight, value: weight.requires_grad_(value), False
)
_HOOKS = _Switch[Tensor, object](
    lambda weight: weight._backward_hooks, lambda weight, value: setattr(weight, "_backward_hooks", value), None
)
