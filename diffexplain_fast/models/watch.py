"""Noticing that a user edited a model after it was read."""

import operator
from collections.abc import Collection

import torch
from torch import Tensor, nn

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_INTERNAL = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules", *_HOOKS}
"""Attributes that every module has and that do not change what it computes; its mode is one, for models run frozen."""
_NUMBERS = 7
"""Numbers of a weight that are compared: enough to see it negated or put in another order, which its norm does not."""
_SCALARS = (bool, int, float, str)


class Watch:
    """What modules were at one time: their parts, options, hooks and weights.

    Weights are compared by place and version, and by norm and a few numbers of each, for an edit of ``weight.data``
    leaves place and version alone.

    Args:
        *modules: the models to watch.
        trained: parameters that an optimizer changes between calls: no edit, except of dtype and place.
    """

    def __init__(self, *modules: nn.Module, trained: Collection[Tensor] = ()) -> None:
        parts = [part for module in modules for part in module.modules()]
        self._parts = [(part, vars(part), [name for name in vars(part) if name not in _INTERNAL]) for part in parts]
        self._weights = [weight for module in modules for weight in module.parameters()]
        self._trained = {*map(id, trained)}
        self._groups: dict[tuple, list[tuple[Tensor, Tensor]]] = {}
        for weight in self._weights:
            if weight.is_floating_point() and not weight.is_meta and id(weight) not in self._trained:
                self._groups.setdefault((weight.dtype, weight.device), []).append((weight, _some(weight.detach())))
        self._seen, self._places, self._numbers = self._look(), self._place(), self._measure()

    def edited(self) -> bool:
        """Whether anything differs from what it was."""
        return self.touched() or not all(map(torch.equal, self._measure(), self._numbers))

    def touched(self) -> bool:
        """Whether anything differs that can be seen without reading a weight."""
        now, seen = self._look(), self._seen
        if self._place() != self._places or len(now) != len(seen):
            return True
        # By identity first: most are modules and hooks, and comparing tensors would make tensors.
        return not all(map(operator.is_, now, seen)) and not all(map(_equal, now, seen))

    def _look(self) -> list[object]:
        found: list[object] = global_hooks()
        for part, attributes, names in self._parts:
            found += (type(part), type(part).forward, len(attributes))  # their number tells of one that is new or gone
            if (processor := attributes.get("processor")) is not None:
                found.append(type(processor).__call__)
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
        unversioned = self._trained
        return [
            (one.data_ptr(), 0 if id(one) in unversioned or one.is_inference() else one._version, one.dtype)
            for one in self._weights
        ]

    @torch.no_grad()
    def _measure(self) -> list[Tensor]:
        """Return the norms of all weights that have numbers, and some of the numbers, two tensors for each dtype."""
        found = []
        for (dtype, _), group in self._groups.items():
            weights, some = map(list, zip(*group, strict=True))
            norms = torch._foreach_norm(weights, 2, dtype=torch.promote_types(dtype, torch.float32))
            found += [torch.stack(norms).nan_to_num(), torch.cat(some).nan_to_num()]
        return found


def _some(weight: Tensor) -> Tensor:
    """Return a few numbers of a weight, at even distances in memory if it is dense."""
    dense = weight.permute(sorted(range(weight.ndim), key=weight.stride, reverse=True))
    return dense.reshape(-1)[:: max(1, weight.numel() // _NUMBERS)] if dense.is_contiguous() else dense.flatten()[:1]


def global_hooks() -> list[object]:
    """Return the hooks that run on every module, but for those of torch's own tools, which only count."""
    every = nn.modules.module
    hooks = [hook for name in _HOOKS for hook in vars(every)[f"_global{name}"].values()]
    return [hook for hook in hooks if not str(getattr(hook, "__module__", "")).startswith("torch.")]


def has_hooks(part: nn.Module) -> bool:
    """Whether a module, its parts aside, runs hooks."""
    return any(vars(part)[name] for name in _HOOKS)


def _equal(one: object, two: object) -> bool:
    return one is two or (type(one) is type(two) and type(one) in _SCALARS and one == two)
