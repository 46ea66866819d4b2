"""Values, functions and objects as JSON values that are the same in every process."""

import enum
import functools
import hashlib
import inspect
import json
import numbers
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from types import CodeType, FunctionType

import torch
from torch import nn

from diffexplain_fast.models.reach import content_of
from diffexplain_fast.models.watch import methods_of, package_of
from diffexplain_fast.models.written import methods, own, remembered, written_by
from diffexplain_fast.records import Json, JsonObject

_SAME_ATTENTION = frozenset(("AttnProcessor", "AttnProcessor2_0", "SlicedAttnProcessor", "XFormersAttnProcessor"))
"""Processors of diffusers whose results are equal up to rounding."""
_DEEPEST = 8
_SCALARS = bool | str | numbers.Real
_TIMES = 1e9, 1e11
"""A number between these that is not whole is a time in seconds since 1970."""
_NOTHING: frozenset[str] = frozenset()


class Telling:
    """Tells values as JSON values; an object that many others hold is told once, and objects may hold each other.

    What a run writes is left out: attributes that the code of an own class assigns when it is called, and variables
    that a function assigns in the function around it.
    """

    def __init__(self) -> None:
        self._told: dict[tuple[int, bool, frozenset[str]], tuple[int, Json, object]] = {}
        self._above: list[int] = []
        self._code: dict[type, Json] = {}
        self._written: dict[type, frozenset[str]] = {}

    def value(self, value: object, fractions: bool = False, depth: int = 0, written: frozenset[str] = _NOTHING) -> Json:
        """Return a value as JSON values; None for what does not count.

        Args:
            value: anything.
            fractions: leave out texts, booleans, whole numbers and lists.
            depth: of the value in others.
            written: names of attributes that those who hold the value write in it.
        """
        if depth > _DEEPEST or isinstance(value, nn.Module | torch.Tensor):
            return None
        if isinstance(value, enum.Enum):
            return None if fractions else value.name
        if isinstance(value, bool | str):
            return None if fractions else value or None
        if isinstance(value, numbers.Real):
            return None if fractions and isinstance(value, numbers.Integral) else _number(value)
        if isinstance(value, Mapping):
            items = {self._key(key): self.value(item, fractions, depth + 1, written) for key, item in value.items()}
            return {key: item for key, item in items.items() if item is not None} or None
        if isinstance(value, AbstractSet):
            return None if fractions else self._set(value, depth + 1)
        if isinstance(value, list | tuple):
            if fractions and not isinstance(value, tuple):
                return None
            told = [self.value(item, fractions, depth + 1, written) for item in value]
            return told if any(item is not None for item in told) else None
        if isinstance(value, type | torch.dtype):
            return name_of(value) if isinstance(value, type) else str(value)
        return self._once(value, fractions, depth + 1, written) if callable(value) else None

    def own_code(self, kind: type) -> Json:
        """Return the code of those functions of a class, by name, that come from none of the known packages."""
        if kind not in self._code:
            if issubclass(kind, nn.Module):
                functions = methods_of(kind)
            else:
                functions = {name: one for base in reversed(kind.__mro__) for name, one in vars(base).items()}
            codes = {name: getattr(one, "__code__", None) for name, one in functions.items() if _own(one)}
            found = {name: self._of_code(code) for name, code in codes.items() if isinstance(code, CodeType)}
            self._code[kind] = found or None
        return self._code[kind]

    def written(self, kind: type) -> frozenset[str]:
        """Return the names of the attributes that a class writes when it is called."""
        if kind not in self._written:
            self._written[kind] = written_by(*methods(kind), kind=kind)
        return self._written[kind]

    def _key(self, key: object) -> str:
        """Return a key as a text, which holds no address of a function or an object."""
        return key if isinstance(key, str) else json.dumps(self.value(key, depth=1), sort_keys=True)

    def _set(self, values: AbstractSet[object], depth: int) -> Json:
        # Their order differs between processes, so that none of them may say less because another one came before.
        told = sorted((Telling().value(item, depth=depth) for item in values), key=json.dumps)
        return told if any(item is not None for item in told) else None

    def _once(self, value: Callable[..., object], fractions: bool, depth: int, written: frozenset[str]) -> Json:
        """Return what a callable does, from memory if it was told from no deeper place."""
        itself = getattr(value, "__self__", None) if inspect.ismethod(value) else None
        places = {id(value), id(itself)} - {id(None)}
        above = next((place for place, one in enumerate(reversed(self._above)) if one in places), None)
        if above is not None:
            return ["above", above]
        key = id(value), fractions, written
        found = self._told.get(key)
        if found is None or found[0] > depth:
            self._above.append(id(value if itself is None else itself))
            told = self._called(value, fractions, depth, written)
            self._above.pop()
            if told is not None and not isinstance(told, str):
                told = digest_of(told)  # the text of those who hold each other would have no end
            self._told[key] = found = (depth, told, value)  # holding the value keeps its id its own
        return found[1]

    def _called(self, value: Callable[..., object], fractions: bool, depth: int, written: frozenset[str]) -> Json:
        """Return what a function, or an object that is called as one, does, as far as can be said."""
        if isinstance(value, functools.partial):
            held = (self._cell(each, _NOTHING) for each in (value.args, value.keywords))
            return ["partial", self.value(value.func, fractions, depth), *held]
        if inspect.ismethod(value):
            written |= written_by(value, kind=type(value.__self__))
            return [
                "method",
                self.value(value.__func__, fractions, depth),
                self._attributes(value.__self__, True, depth, written),
            ]
        if isinstance(value, FunctionType):
            return self._function(value, written)
        if inspect.isbuiltin(value) or not hasattr(value, "__dict__"):
            return getattr(value, "__name__", None) or name_of(type(value))
        kind = type(value)
        if package_of(name_of(kind)) == "diffusers" and kind.__name__ in _SAME_ATTENTION:
            return None
        return [name_of(kind), self.own_code(kind), self._attributes(value, fractions, depth, written)]

    def _function(self, value: FunctionType, written: frozenset[str]) -> Json:
        written |= written_by(value)
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=False)
        contents = [(name, content_of(cell)) for name, cell in cells]
        held = [None if remembered(name, each, written) else each for name, each in contents]
        code = self._of_code(value.__code__) if own(value) else None
        told = [self._cell(each, written) for each in (*held, value.__defaults__, value.__kwdefaults__)]
        return [name_of(value), code, told]

    def _cell(self, value: object, written: frozenset[str]) -> Json:
        """Return what a function holds: numbers and texts, and only the fractions of what could be its memory."""
        return self.value(value, not isinstance(value, _SCALARS | tuple), _DEEPEST - 2, written)

    def _attributes(self, value: object, fractions: bool, depth: int, written: frozenset[str]) -> Json:
        if isinstance(value, nn.Module):
            return None
        written |= self.written(type(value))
        attributes = [(name, each) for name, each in getattr(value, "__dict__", {}).items() if name not in written]
        held = {name: self.value(each, fractions or name.startswith("_"), depth, written) for name, each in attributes}
        return {name: each for name, each in held.items() if each is not None} or None

    def _of_code(self, code: CodeType) -> Json:
        constants = [self._of_code(one) if isinstance(one, CodeType) else self.value(one) for one in code.co_consts]
        return [code.co_code.hex(), [*code.co_names], constants]


def digest_of(told: Json | JsonObject) -> str:
    """Return 16 hexadecimal digits of a sha256 over JSON values."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def name_of(value: object) -> str:
    """Return package and name of a class or function; its file may be another in the next version of the package."""
    return f"{package_of(str(getattr(value, '__module__', '')))}.{getattr(value, '__qualname__', '')}"


def _number(value: numbers.Real) -> int | float | None:
    if isinstance(value, numbers.Integral):
        return int(value)
    number = float(value)
    if number.is_integer():
        return int(number)  # 1 and 1.0 compute the same
    return None if _TIMES[0] <= number <= _TIMES[1] else number


def _own(function: object) -> bool:
    return own(function.func if isinstance(function, functools.partial) else function)
