"""The torch modules that a function or an object of the user runs."""

import dis
import functools
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import islice
from types import CellType, CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType

from torch import Tensor, nn

from diffexplain_fast.models.watch import home_of, package_of

_INTERNAL = frozenset(vars(nn.Module()))
"""Attributes of every module, which hold nothing that ``modules()`` does not give."""
_EMPTY = (int, float, str, bytes, type(None), Tensor, ModuleType)
"""Kinds of values that hold no modules, and modules of Python, of which only what code names is looked at."""
_LIBRARIES = sys.stdlib_module_names | {
    *("torch", "torchvision", "torchaudio", "timm", "diffusers", "transformers", "peft", "accelerate", "captum"),
    *("numpy", "scipy", "sklearn", "pandas", "PIL", "cv2", "matplotlib", "diffexplain_fast"),
}
"""Packages whose functions run no model of the user that they were not given."""
_HOLDERS = frozenset(("types", "argparse", "functools", "_thread"))
"""Modules of the standard library whose objects hold what a user puts into them."""
_DEEPEST = 8
"""Most values that are followed one into another, as from a partial function to a method to its object."""
_MOST = 1000
"""Most values of a list or dict that are looked at."""
_ALL = 2000
"""Most values that are followed from one function, nearest first."""
_INSIDE = {staticmethod: "__func__", classmethod: "__func__", property: "fget", functools.cached_property: "func"}
"""What stands in a class for a function, and its attribute that is the function."""

_Known = dict[int, tuple[int, object]]
"""By id: the smallest depth at which a value was followed, and the value, so that its id stays its own."""


def held_modules(*functions: object) -> list[nn.Module]:
    """Return the modules that functions hold, see ``modules_in``, without those that these modules hold.

    From the same modules, ``modules_in`` finds the same, unless what torch does not register changes: an attribute of
    one of them, or a variable that its code names.
    """
    known: _Known = {}
    return [module for function in functions for module in _held(function, known)]


def modules_in(*functions: object) -> list[nn.Module]:
    """Return the modules that functions run, as far as they hold them; none is a part of another one.

    Found are modules themselves, those of a bound method, of a ``functools.partial``, in the variables that a function
    closes over, in its defaults and attributes, and in the global variables that its code names, also as
    ``my_models.net``; and those in the attributes of an object, of its class, and of every module, which torch does not
    register, and which the functions of an own class name. Lists, tuples, sets, dicts and objects in one another are
    followed through up to 8 of them.

    Args:
        functions: modules, functions, objects that can be called, lists of them, or None.
    """
    found: dict[int, nn.Module] = {}
    parts: set[int] = set()
    seen: set[int] = set()
    known: _Known = {}
    waiting = [module for function in functions for module in _held(function, known)]
    for module in waiting:  # which grows
        if id(module) in seen:
            continue
        found[id(module)] = module
        for part in module.modules():
            if part is not module:
                parts.add(id(part))
            if id(part) not in seen:
                seen.add(id(part))
                held = [value for name, value in vars(part).items() if name not in _INTERNAL]
                for value in (*held, *_of_class(type(part))):
                    if not isinstance(value, _EMPTY):
                        waiting += _held(value, known)
    return [module for key, module in found.items() if key not in parts]


def _held(value: object, known: _Known) -> list[nn.Module]:
    """Return the modules that a value is, or holds, the nearest first.

    Args:
        value: any value.
        known: values that were followed before; those that are followed now are added.
    """
    found: list[nn.Module] = []
    waiting = deque([(value, 0)])
    for _ in range(_ALL):
        if not waiting:
            break
        each, depth = waiting.popleft()
        if isinstance(each, nn.Module):
            found.append(each)
        elif depth < _DEEPEST and (id(each) not in known or known[id(each)][0] > depth):
            known[id(each)] = depth, each
            waiting += [(one, depth + 1) for one in _within(each) if not isinstance(one, _EMPTY)]
    return found


def _within(value: object) -> Iterable[object]:
    """Return what a value holds, calls, or has at hand when it runs."""
    if isinstance(value, MethodType):
        return (value.__self__, value.__func__)
    if isinstance(value, functools.partial):
        return (value.func, *value.args, *value.keywords.values())
    if isinstance(value, FunctionType):
        return _behind(value)
    if isinstance(value, weakref.ref):
        return (value(),)
    if isinstance(value, type):
        return _of_class(value)
    held: list[object] = []
    if isinstance(value, Mapping):
        held += islice(value.values(), _MOST)
    elif isinstance(value, list | tuple | deque | AbstractSet):
        held += islice(value, _MOST)
    kind: type = type(value)
    package = package_of(str(kind.__module__))
    if package in _HOLDERS or package not in sys.stdlib_module_names:
        held += list(vars(value).values()) if hasattr(value, "__dict__") else []
        held += [getattr(value, name, None) for name in _slots(kind)]
        held += _of_class(kind)
    return held


def _behind(function: FunctionType) -> Iterator[object]:
    """Yield what a function holds, and what the code of an own function names."""
    yield from map(content_of, function.__closure__ or ())
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from list(vars(function).values())
    if _own(function):
        for first, *names in _named(function.__code__):
            value = function.__globals__.get(first)
            for name in names:
                value = vars(value).get(name) if isinstance(value, ModuleType) else value
            yield value


def _of_class(kind: type) -> list[object]:
    """Return what own classes of an object hold: their functions, and values that all of their objects share."""
    held = [value for base in kind.__mro__ if _own(base) for value in list(vars(base).values())]
    return [getattr(one, _INSIDE[type(one)]) if type(one) in _INSIDE else one for one in held]


def _own(value: Callable[..., object]) -> bool:
    """Return whether a function or a class comes from none of the libraries."""
    return package_of(home_of(value)) not in _LIBRARIES


@functools.lru_cache(maxsize=4096)
def _named(code: CodeType) -> tuple[tuple[str, ...], ...]:
    """Return the global variables that code reads, also in functions inside of it, each with attributes read of it."""
    found: dict[tuple[str, ...], None] = {}
    for one in _codes(code):
        path: tuple[str, ...] = ()
        for step in dis.get_instructions(one):
            if path and step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                path = (*path, step.argval)
                continue
            if path:
                found[path] = None
            path = (step.argval,) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") else ()
    return tuple(found)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


@functools.lru_cache(maxsize=1024)
def _slots(kind: type) -> tuple[str, ...]:
    """Return the names of the attributes for which a class has places in its objects."""
    places = (vars(base).items() for base in kind.__mro__)
    return tuple(name for each in places for name, one in each if isinstance(one, MemberDescriptorType))


def content_of(cell: CellType) -> object:
    """Return the value of a variable that a function closes over, or None while it has none."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
