"""Values converted to JSON, and values from JSON checked against the types of their records."""

import dataclasses
import math
import numbers
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints, is_typeddict

from diffexplain_fast.errors import CorruptFileError, describe, wrong_type, wrong_value

Json = Any
"""None, a boolean, a number, text, or a list or dict of these; ``read_as`` checks the type."""
JsonObject = dict[str, Json]


class Range(NamedTuple):
    """The range of a number, with both ends: ``Annotated[int, Range(0, 9)]``."""

    low: float
    high: float


Count = Annotated[int, Range(0, 2**53)]
"""A whole number from 0 that a float can hold."""
Share = Annotated[float, Range(0, 1)]
Magnitude = Annotated[float, Range(0, math.inf)]
NEWER = {"newer": True}
"""``metadata`` of a dataclass field with a default that files of earlier versions lack."""
_OPEN = object()
Number = Annotated[float, _OPEN]
"""Any float, also infinite and NaN, as from a failed measurement or an open interval."""
Norm = Annotated[Magnitude, _OPEN]
"""A magnitude that may be infinite or NaN."""
Probability = Annotated[Share, _OPEN]
"""A share that may be NaN, if its logits were not finite."""


def unique_keys(pairs: Sequence[tuple[str, Json]]) -> JsonObject:
    """Return a JSON object of its pairs, for ``object_pairs_hook``: of a key twice, JSON alone keeps the last.

    Raises:
        ValueError: a key twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} twice in one object")
    return found


def as_json(value: object, place: str) -> Json:
    """Return a value as JSON values, so that it is equal after it has been written and read.

    Numbers of numpy, torch and others become int, float or bool; arrays, tensors and tuples become lists; paths become
    text. NaN and infinities stay, because ``write_json_atomic`` and ``read_json`` keep them.

    Args:
        value: dicts with text as keys, sequences, arrays, text, paths, numbers, booleans and None, nested.
        place: name of the argument in the message.

    Raises:
        TypeError: a value of another kind; the message names its place.
        ValueError: a value that contains itself.
    """
    try:
        return _plain(value, place)
    except RecursionError:
        raise wrong_value(place, "values nested less deeply", "a value that contains itself, or nearly so") from None


def _plain(value: object, place: str) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str | PurePath):
        return str.__str__(value) if isinstance(value, str) else str(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise wrong_type(place, "dicts with text as keys", key)
        return {str.__str__(key): _plain(item, f"{place}, {key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{place}, {i}") for i, item in enumerate(value)]
    if hasattr(value, "tolist"):  # an array, a tensor, or a number of numpy that is neither whole nor real
        return _plain(value.tolist(), place)
    raise wrong_type(place, "numbers, text, paths, lists, arrays, dicts, booleans or None", value)


def read_as(kind: object, value: Json, place: str) -> Json:
    """Return a value from JSON as a type.

    Args:
        kind: ``Any``, bool, int, float (finite), str, one of them in a ``Range`` or with None, list, tuple or dict of
            them, a dataclass (exactly its fields; those that are ``NEWER`` may be absent) or a TypedDict (its keys,
            optionally with others).
        value: value from JSON.
        place: the file and the place in it, for the message.

    Returns:
        The value, with tuples for lists and dataclasses for dicts, if ``kind`` says so.

    Raises:
        CorruptFileError: the value is of another type or out of its range; the message names the place.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        if _OPEN in arguments and type(value) is float and not math.isfinite(value):
            return value
        value = read_as(arguments[0], value, place)
        return _in_range(arguments[1], value, place) if isinstance(arguments[1], Range) else value
    if origin in (Union, UnionType):
        (present,) = (argument for argument in arguments if argument is not NoneType)
        return None if value is None else read_as(present, value, place)
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or is_typeddict(kind)):
        return _fields(kind, value, place)
    if origin is dict and isinstance(value, dict):
        return {key: read_as(arguments[1], item, f"{place}, {key}") for key, item in value.items()}
    if origin is list and isinstance(value, list):
        return [read_as(arguments[0], item, f"{place}, {i}") for i, item in enumerate(value)]
    if origin is tuple and isinstance(value, list) and len(value) == len(arguments):
        return tuple(
            read_as(argument, item, f"{place}, {i}")
            for i, (argument, item) in enumerate(zip(arguments, value, strict=True))
        )
    if kind is float and _is_finite(value):
        return value
    if kind in (bool, int, str) and type(value) is kind:
        return value
    named = str(kind) if origin else getattr(kind, "__name__", str(kind))
    wanted = "a finite number" if kind is float else named
    raise CorruptFileError(describe(place, wanted, repr(value)))


def _fields(kind: type, value: Json, place: str) -> Json:
    """Return the dataclass of a dict, or the same dict for a TypedDict."""
    kinds = get_type_hints(kind, include_extras=True)
    exact = dataclasses.is_dataclass(kind)
    newer = {field.name for field in dataclasses.fields(kind) if field.metadata == NEWER} if exact else set[str]()
    needed = getattr(kind, "__required_keys__", kinds.keys() - newer)
    if not isinstance(value, dict) or not needed <= value.keys() or (exact and value.keys() - kinds.keys()):
        raise CorruptFileError(describe(place, f"a dict of {', '.join(kinds)}", repr(value)))
    fields = {key: read_as(kinds[key], item, f"{place}, {key}") for key, item in value.items() if key in kinds}
    return kind(**fields) if exact else value


def _in_range(limits: Range, value: Json, place: str) -> Json:
    if not limits.low <= value <= limits.high:
        raise CorruptFileError(describe(place, f"a number from {limits.low} to {limits.high}", value))
    return value


def _is_finite(value: Json) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # a whole number that is too large for a float
        return False
