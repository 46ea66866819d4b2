"""The torch modules that a function or an object of the user runs."""

import functools
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from types import CellType, FunctionType, MethodType

from torch import Tensor, nn

_INTERNAL = frozenset(vars(nn.Module()))
"""Attributes of every module, which hold nothing that ``modules()`` does not give."""
_EMPTY = (int, float, str, type(None), Tensor)
"""Kinds of most attributes, which hold no modules."""
_DEEPEST = 4
"""Most functions that are followed one into another, as from a partial function to a method to its object."""
_MOST = 1000
"""Most values of a list or dict that are looked at."""


def held_modules(*functions: object) -> list[nn.Module]:
    """Return the modules that functions hold, see ``modules_in``, without those that these modules hold.

    From the same modules, ``modules_in`` finds the same, unless an attribute of one of them that torch does not
    register changes.
    """
    return [module for function in functions for module in _held(function)]


def modules_in(*functions: object) -> list[nn.Module]:
    """Return the modules that functions run, as far as they hold them; none is a part of another one.

    Found are modules themselves, those of a bound method, of a ``functools.partial``, in the variables that a function
    closes over and in its defaults, and in the attributes of an object and of every module, also in lists, tuples and
    dicts of them, which torch does not register.

    Args:
        functions: modules, functions, objects that can be called, or None.
    """
    found: dict[int, nn.Module] = {}
    parts: set[int] = set()
    known: set[int] = set()
    waiting = held_modules(*functions)
    for module in waiting:  # which grows
        if id(module) in known:
            continue
        found[id(module)] = module
        for part in module.modules():
            if part is not module:
                parts.add(id(part))
            if id(part) not in known:
                known.add(id(part))
                for name, value in vars(part).items():
                    if name not in _INTERNAL and not isinstance(value, _EMPTY):
                        waiting += _held(value, within=True)
    return [module for key, module in found.items() if key not in parts]


def _held(value: object, depth: int = 0, *, within: bool = False) -> Iterator[nn.Module]:
    """Yield the modules that a value is, or holds.

    Args:
        value: any value.
        depth: number of functions that led to it.
        within: True for an attribute of an object or a module, of which only functions are followed.
    """
    if isinstance(value, nn.Module):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        values = value.values() if isinstance(value, Mapping) else value
        yield from (each for each in islice(values, _MOST) if isinstance(each, nn.Module))
    elif isinstance(value, MethodType | functools.partial | FunctionType):
        if depth < _DEEPEST:
            for each in _behind(value):
                yield from _held(each, depth + 1, within=within)
    elif not within and not isinstance(value, type) and hasattr(value, "__dict__"):
        for each in list(vars(value).values()):
            yield from _held(each, depth + 1, within=True)


def _behind(function: "MethodType | functools.partial[object] | FunctionType") -> Iterable[object]:
    """Return what a function calls, or has at hand when it runs."""
    if isinstance(function, MethodType):
        return (function.__self__, function.__func__)
    if isinstance(function, functools.partial):
        return (function.func, *function.args, *function.keywords.values())
    cells = (content_of(cell) for cell in function.__closure__ or ())
    return (*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())


def content_of(cell: CellType) -> object:
    """Return the value of a variable that a function closes over, or None while it has none."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
