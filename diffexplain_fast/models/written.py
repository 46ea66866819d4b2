"""Which attributes the code of a user writes while a model runs: what it remembers, as a count of its calls."""

import dis
from collections.abc import Collection, Iterable, Iterator
from types import CodeType, FunctionType

from diffexplain_fast.models.watch import home_of, package_of

KNOWN = frozenset(("torch", "diffusers", "transformers", "peft", "accelerate"))
"""Packages whose functions their names tell apart; a user's function may have other code tomorrow."""
RUNS = ("__call__", "forward", "encode", "decode")
"""Names of the functions by which a model runs its parts."""
_CHANGES = frozenset(
    ("append", "appendleft", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "remove", "clear")
)
"""Methods by which a list, dict or set remembers more."""
_ASSIGNED = frozenset(("STORE_ATTR", "DELETE_ATTR", "STORE_DEREF"))
_READ = frozenset(("LOAD_ATTR", "LOAD_METHOD", "LOAD_DEREF"))
_ITEM = frozenset((("STORE_SUBSCR", None), ("DELETE_SUBSCR", None), ("COPY", 2)))
"""Instructions after a container and its key by which an entry is written; a copy of both begins ``+=``."""


def own(function: object) -> bool:
    """Return whether a function comes from none of the known packages."""
    return package_of(home_of(function)) not in KNOWN


def written_by(*functions: object, kind: type = object) -> frozenset[str]:
    """Return the names of attributes, and of variables of a function around, that own functions write when they run.

    Functions that they call by name are read too, if they are methods of the class or stand in the same file.

    Args:
        functions: functions, or methods; others are left out.
        kind: the class of the object that they belong to.
    """
    waiting, known, names = [each for one in functions for each in _layers(one)], set[int](), set[str]()
    for function in waiting:  # which grows
        if id(function) in known or not own(function):
            continue
        known.add(id(function))
        for code in _codes(function.__code__):
            names |= {*_written(code)}
            for name in code.co_names:
                waiting += [*methods(kind, (name,)), *_layers(function.__globals__.get(name))]
    return frozenset(names)


def remembered(name: str, value: object, written: Collection[str]) -> bool:
    """Return whether an attribute holds what runs wrote into it; what is called as a function is no such memory."""
    return name in written and not callable(value)


def methods(kind: type, names: Iterable[str] = RUNS) -> list[FunctionType]:
    """Return the functions by some names of a class and of all its bases, without what decorates them."""
    found = [vars(base)[name] for base in kind.__mro__ for name in names if name in vars(base)]
    return [layer for one in found for layer in _layers(getattr(one, "fget", one))]


def _layers(function: object) -> list[FunctionType]:
    """Return a function, and those that it decorates."""
    found: list[FunctionType] = []
    while function is not None and function not in found:
        function = getattr(function, "__func__", function)
        if isinstance(function, FunctionType):
            found.append(function)
        function = vars(function).get("__wrapped__") if hasattr(function, "__dict__") else None
    return found


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _written(code: CodeType) -> Iterator[str]:
    steps = [*dis.get_instructions(code)]
    for step, key, after in zip(steps, [*steps[1:], None], [*steps[2:], None, None], strict=False):
        if step.opname in _ASSIGNED:
            yield step.argval
        elif step.opname in _READ and key is not None:
            entry = key.opname.startswith("LOAD") and after is not None and (after.opname, after.arg) in _ITEM
            if entry or (key.opname in _READ and key.argval in _CHANGES):
                yield step.argval
