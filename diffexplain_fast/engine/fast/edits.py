"""Noticing that a user edited a model after it was read."""

import operator
from typing import Any

import torch
from torch import Tensor, nn

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_INTERNAL = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules", *_HOOKS}
"""Attributes that every module has and that do not change what it computes; its mode is one, for models run frozen."""
_SCALARS = (bool, int, float, str)


class Watch:
    """What modules were at one time: their parts, options, hooks and weights.

    Weights are compared by place, version and norm, for an edit of ``weight.data`` leaves place and version alone.

    Args:
        *modules: the models to watch.
    """

    def __init__(self, *modules: nn.Module) -> None:
        parts = [part for module in modules for part in module.modules()]
        self._parts = [(part, vars(part), [name for name in vars(part) if name not in _INTERNAL]) for part in parts]
        self._weights = [weight for module in modules for weight in module.parameters()]
        self._seen, self._places, self._norms = self._look(), self._place(), self._measure()

    def edited(self) -> bool:
        """Whether anything differs from what it was."""
        now, seen = self._look(), self._seen
        if self._place() != self._places or len(now) != len(seen):
            return True
        # By identity first: most are modules and hooks, and comparing tensors would make tensors.
        if not all(map(operator.is_, now, seen)) and not all(map(_equal, now, seen)):
            return True
        return not all(map(torch.equal, self._measure(), self._norms))

    def _look(self) -> list[Any]:
        found: list[Any] = []
        for part, attributes, names in self._parts:
            found += (type(part), len(attributes))  # their number tells of one that is new or gone
            for name in names:
                value = attributes.get(name)
                if isinstance(value, dict):
                    found += value.values()
                elif isinstance(value, list | tuple):
                    found += value
                else:
                    found.append(value)
        return found

    def _place(self) -> list[tuple]:
        """Return where every weight is, how often it was changed in place, and its dtype."""
        return [(one.data_ptr(), 0 if one.is_inference() else one._version, one.dtype) for one in self._weights]

    @torch.no_grad()
    def _measure(self) -> list[Tensor]:
        """Return the norms of all weights that have numbers, a tensor for each dtype."""
        groups: dict[tuple, list[Tensor]] = {}
        for weight in self._weights:
            if weight.is_floating_point() and not weight.is_meta:
                groups.setdefault((weight.dtype, weight.device), []).append(weight)
        return [
            torch.stack(torch._foreach_norm(group, 2, dtype=torch.promote_types(dtype, torch.float32))).nan_to_num()
            for (dtype, _), group in groups.items()
        ]


def has_hooks(part: nn.Module) -> bool:
    """Whether a module, its parts aside, runs hooks."""
    return any(vars(part)[name] for name in _HOOKS)


def _equal(one: Any, two: Any) -> bool:
    return one is two or (type(one) is type(two) and type(one) in _SCALARS and one == two)
