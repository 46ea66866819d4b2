"""Noticing that a user edited a model after it was read."""

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from diffexplain_fast.models.attributes import HOOKS, Attributes, Listener, equal_lists
from diffexplain_fast.models.numbers import Numbers

_NO_BACKWARD = -1
"""What torch says for the run of autograd's engine where none runs."""
_LIBRARIES = frozenset(("torch", "diffusers", "peft"))
"""Packages whose modules compute the same in every run."""


class OncePerBackward:
    """Asks whether there was an edit, and once only in each run of autograd's engine.

    One backward may run through many calls, such as those of single steps.
    """

    def __init__(self) -> None:
        self._asked_in = _NO_BACKWARD

    def edited(self, ask: Callable[[], bool]) -> bool:
        """Return what ``ask`` returns, False without asking where it has been False in this run."""
        run = torch._C._current_graph_task_id()
        if run == _NO_BACKWARD or run != self._asked_in:
            if ask():
                return True
            self._asked_in = run
        return False


class Watch:
    """The state of modules at one time: submodules, options, hooks and weights.

    Weights are compared by address and version, and also by norm and a few numbers of each weight, because an edit of
    ``weight.data`` changes neither address nor version. One that keeps all of these, as two channels that change
    places, is not noticed. Buffers are compared by version only.

    Args:
        *modules: the models to watch.
        trained: parameters that an optimizer changes between calls; only a new dtype or address of them is an edit.
    """

    def __init__(self, *modules: nn.Module, trained: Collection[Tensor] = ()) -> None:
        submodules = [child for module in modules for child in module.modules()]
        self._submodules = [Attributes(module) for module in submodules]
        self._kinds = dict.fromkeys(map(type, submodules))
        self._weights = [weight for module in modules for weight in module.parameters()]
        self._buffers = [buffer for module in modules for buffer in module.buffers()]
        self._trained = {*map(id, trained)}
        self._numbers = Numbers(weight for weight in self._weights if id(weight) not in self._trained)
        self._seen, self._places = self._look(), self._place()
        self._once = OncePerBackward()

    def edited(self) -> bool:
        """Return whether anything differs from the recorded state."""
        return self.touched() or self._numbers.differ()

    def edited_in_backward(self) -> bool:
        """Return the same as ``edited``, but read the weights only once in each run of autograd's engine."""
        return self.touched() or self._once.edited(self._numbers.differ)

    def touched(self) -> bool:
        """Return whether anything differs that is visible without reading a weight."""
        return self._place() != self._places or not equal_lists(self._look(), self._seen)

    def ran(self, again: bool = False) -> None:
        """Take over what the modules wrote into themselves in a run, such as what a hook stores, which is no edit.

        An attribute that was written so is not compared any more. A weight that was written has a new version, which
        is taken over if its values are the same: an adapter of PEFT on a parameter puts itself into the layer, and
        takes itself out again, in every run.

        Args:
            again: whether a backward is going to run the modules again, and with them what writes. Then values that
                were written by ``weight.data`` are no edit either.
        """
        places = self._place()
        if places != self._places and self._rewritten(places):
            self._places = places
        if again and self._places == places:
            self._numbers.take_over()
        if not equal_lists(self._look(), self._seen):
            for attributes in self._submodules:
                attributes.take_over()
            self._seen = self._look()

    def _look(self) -> list[object]:
        values: list[object] = global_hooks()
        values += [0 if buffer.is_inference() else buffer._version for buffer in self._buffers]
        for kind in self._kinds:
            values += methods_of(kind).values()
        for attributes in self._submodules:
            values += attributes.look()
        return values

    def _place(self) -> list[tuple]:
        """Return for each weight its address, its version (number of changes in place) and its dtype."""
        unversioned = self._trained
        return [
            (w.data_ptr(), 0 if id(w) in unversioned or w.is_inference() else w._version, w.dtype)
            for w in self._weights
        ]

    def _rewritten(self, places: list[tuple]) -> bool:
        """Return whether only versions of weights differ, and all these weights have the values that they had."""
        compared = self._numbers.compared
        for weight, now, before in zip(self._weights, places, self._places, strict=True):
            if now != before and not (id(weight) in compared and (now[0], now[2]) == (before[0], before[2])):
                return False
        return not self._numbers.differ()


def global_hooks() -> list[object]:
    """Return the hooks that run on every module, except those of torch's tools, which only count."""
    every = nn.modules.module
    hooks = [hook for name in HOOKS for hook in vars(every)[f"_global{name}"].values()]
    return [hook for hook in hooks if not str(getattr(hook, "__module__", "")).startswith("torch.")]


def has_hooks(module: nn.Module) -> bool:
    """Return whether a module runs hooks, without those of its submodules."""
    return any(type(hook) is not Listener for name in HOOKS for hook in vars(module)[name].values())


def own_parts(model: nn.Module) -> list[nn.Module]:
    """Return those modules of a model that may compute something else in every run: own classes, methods, processors.

    A module with a hook is one of them, and every module is if a hook runs on all modules. Of a compiled model none is,
    because a hook of the caller would be compiled with it.
    """
    modules = list(model.modules())
    if is_compiled(model):
        return []
    every, kinds = bool(global_hooks()), {kind: _own_kind(kind) for kind in {*map(type, modules)}}
    return [part for part in modules if every or kinds[type(part)] or _own_instance(part)]


def is_compiled(model: nn.Module) -> bool:
    """Return whether a model or a part of it runs through ``torch.compile``."""
    parts = model.modules()
    return any(type(part).__name__ == "OptimizedModule" or vars(part).get("_compiled_call_impl") for part in parts)


def _own_kind(kind: type) -> bool:
    packages = {package_of(base.__module__) for base in kind.__mro__}
    changed = any(foreign(function, packages) for function in methods_of(kind).values())
    return changed or package_of(kind.__module__) not in _LIBRARIES


def _own_instance(module: nn.Module) -> bool:
    attributes = vars(module)
    processor = attributes.get("processor")
    own = processor is not None and package_of(type(processor).__module__) not in _LIBRARIES
    return own or has_hooks(module) or bool(_replaced(module))


def methods_of(kind: type) -> dict[str, Callable[..., object]]:
    """Return by name the functions of those classes of a module's class that say how the module computes.

    These are the classes that define ``forward``; other functions of theirs are parts of it, as ``_conv_forward`` of a
    convolution and ``decode`` of an autoencoder are.
    """
    computing = [base for base in kind.__mro__ if base is not nn.Module and "forward" in vars(base)]
    found = [(name, value) for base in reversed(computing) for name, value in vars(base).items()]
    return {name: value for name, value in found if callable(value) and not isinstance(value, type)}


def replaced_method(module: nn.Module) -> tuple[str, str]:
    """Return the name of a method that somebody replaced, in the module or in its class, and by what; or empty texts.

    A function of a class is a replacement if it, or a decorator of it, comes from another package than the class.
    """
    methods = methods_of(type(module))
    if own := _replaced(module):
        return own[0], ""
    packages = {package_of(base.__module__) for base in type(module).__mro__}
    by = {name: foreign(function, packages) for name, function in methods.items()}
    return next(((name, found) for name, found in by.items() if found), ("", ""))


def _replaced(module: nn.Module) -> list[str]:
    """Return the names of the methods that a module has of its own; its class's, as left by removed hooks, are none."""
    attributes, methods = vars(module), methods_of(type(module))
    own = {name: attributes[name] for name in methods if name in attributes}
    return [
        name
        for name, value in own.items()
        if getattr(value, "__func__", None) is not methods[name] or getattr(value, "__self__", None) is not module
    ]


def foreign(function: object, packages: Collection[str]) -> str:
    """Return the name of the first function in a call that comes from none of some packages, or an empty text.

    Args:
        function: a function, a method or another callable. What decorates it is asked too, by its own code, because
            ``functools.wraps`` gives it the module and the name of the function inside.
        packages: names of packages, such as "diffusers".
    """
    layer: object = function
    while layer is not None:
        layer = getattr(layer, "__func__", layer)  # a method's function
        module = home_of(layer)
        if package_of(module) not in packages:
            name = getattr(getattr(layer, "__code__", None), "co_qualname", type(layer).__qualname__)
            return f"{module}.{name}"
        layer = getattr(layer, "__wrapped__", None)
    return ""


def home_of(function: object) -> str:
    """Return the name of the module that a function's own code comes from, or that a class or an object names."""
    return str(getattr(function, "__globals__", {}).get("__name__") or getattr(function, "__module__", ""))


def package_of(module: str) -> str:
    """Return the first part of a module's name."""
    return module.partition(".")[0]
