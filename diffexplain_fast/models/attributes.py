"""The attributes of modules that may change what they compute: options, hooks, weights and submodules."""

import operator
from collections.abc import Callable

from torch import nn

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Attributes of a module that hold its hooks."""
_INTERNAL = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules", *HOOKS}
"""Attributes of every module that do not change its results. The mode is one of them, because models run in eval
mode."""
_READ = frozenset(("_parameters", "_modules", "processor", *HOOKS))
"""Attributes that are an edit whoever changes them, also a hook that removes itself while the model runs."""
_SWITCHES = frozenset(
    ("_parameters", "_disable_adapters", "_active_adapter", "scaling", "merged_adapters", "gradient_checkpointing")
)
"""Attributes that decide which graph a module records, also where its results stay the same: adapters, and the
checkpointing of diffusers."""
_CONTAINERS = (dict, list, tuple)
_SCALARS = (bool, int, float, str)


class Listener:
    """A forward hook of the package's own, which is on a module only while a model runs, and no edit of a model.

    Args:
        listen: gets the output of the module.
    """

    def __init__(self, listen: Callable[[object], None]) -> None:
        self._listen = listen

    def __call__(self, module: nn.Module, given: object, output: object) -> None:
        """Hand on an output, and leave it as it is."""
        self._listen(output)


class Attributes:
    """The attributes of a module that may change its results.

    Args:
        module: one module; its submodules are not looked at.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module, self._all = module, vars(module)
        self._written: set[str] = set()
        self._before = self._named()

    def look(self) -> list[object]:
        """Return the values of the attributes as a list."""
        number = len(self._all) - sum(name in self._all for name in self._written)
        values: list[object] = [type(self._module), number]  # the number shows new or removed attributes
        if (processor := self._all.get("processor")) is not None:
            values.append(type(processor).__call__)
        for name in self._before:  # a few thousand times before every call; most values are empty containers
            value = self._all.get(name)
            if not isinstance(value, _CONTAINERS):
                values.append(value)
            elif value:
                values += _items(name, value)
        return values

    def take_over(self, every: bool = False) -> None:
        """Compare no longer the attributes that now differ.

        Args:
            every: also those that are always an edit for who does not run the module again.
        """
        self._written |= self.differing() - (frozenset() if every else _READ)
        self._before = {name: values for name, values in self._before.items() if name not in self._written}

    def differing(self) -> set[str]:
        """Return the names of the attributes that differ from those before."""
        now, before = self._named(), self._before
        return {name for name in now.keys() | before.keys() if not equal_lists(now.get(name), before.get(name))}

    def switched(self) -> bool:
        """Return whether an adapter, a weight or the kind of a processor is another one."""
        differing = self.differing()
        kinds = [[type(each) for each in named.get("processor", ())] for named in (self._named(), self._before)]
        return not differing.isdisjoint(_SWITCHES) or kinds[0] != kinds[1]

    def _named(self) -> dict[str, list[object]]:
        left_out = _INTERNAL | self._written
        return {name: _items(name, value) for name, value in self._all.items() if name not in left_out}


def _items(name: str, value: object) -> list[object]:
    if isinstance(value, dict):
        if name == "_parameters":  # their order means nothing, and a parametrization that comes and goes changes it
            return [value[key] for key in sorted(value)]
        return [each for each in value.values() if type(each) is not Listener]
    return [*value] if isinstance(value, list | tuple) else [value]


class Options:
    """The attributes of all modules of a model at one time, for who runs the model again and compares the results.

    Hooks do not count: the results show whether they matter. Most options do not either, see ``switched``.

    Args:
        model: its state now is the one to compare with.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parts = [Attributes(module) for module in model.modules()]
        self._seen = self._look()

    def edited(self) -> bool:
        """Return whether another attribute than a hook differs: the reason why a model computes something else."""
        same = equal_lists(self._look(), self._seen)
        return not same and any(part.differing() - {*HOOKS} for part in self._parts)

    def switched(self) -> bool:
        """Return whether the model records another graph, so that its results do not show all that differs."""
        return not equal_lists(self._look(), self._seen) and any(part.switched() for part in self._parts)

    def take_over(self) -> None:
        """Compare no longer what a run of the model has written, as a count: the next run writes it again."""
        if not equal_lists(self._look(), self._seen):
            for part in self._parts:
                part.take_over(every=True)
            self._seen = self._look()

    def _look(self) -> list[object]:
        return [value for part in self._parts for value in part.look()]


def equal_lists(now: list[object] | None, before: list[object] | None) -> bool:
    """Return whether two lists are equal, where None equals nothing."""
    if now is None or before is None or len(now) != len(before):
        return False
    # Identity is compared first: most values are modules and hooks, and == of tensors would create tensors.
    return all(map(operator.is_, now, before)) or all(map(_equal, now, before))


def _equal(now: object, before: object) -> bool:
    return now is before or (type(now) is type(before) and type(now) in _SCALARS and now == before)
