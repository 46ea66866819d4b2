"""What decides what a module computes and is no weight: options, adapters, processors, hooks, and replaced code."""

import functools
import hashlib
import inspect
import json
import numbers
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from types import CodeType

import torch
from torch import nn

from diffexplain_fast.models.watch import HOOKS, global_hooks, methods_of
from diffexplain_fast.records import Json, JsonObject

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_NO_MATTER = frozenset(("name_or_path", "gradient_checkpointing", "use_slicing", "warnings_issued", "config"))
"""Public attributes that are a place, a memory of warnings, or another way to the same numbers; the configuration is
read by itself."""
_ADAPTERS = frozenset(("_active_adapter", "_disable_adapters"))
"""Private attributes by which PEFT knows which adapters take part."""
_OF_FILES = frozenset(("transformers_version", "torch_dtype", "dtype", "architectures", "name_or_path"))
"""Options of a configuration that say how it was stored. Weights have a dtype of their own."""
_SAME_ATTENTION = frozenset(("AttnProcessor", "AttnProcessor2_0", "SlicedAttnProcessor", "XFormersAttnProcessor"))
"""Processors of diffusers whose results are equal up to rounding."""
_KNOWN = frozenset(("torch", "diffusers", "transformers", "peft", "accelerate"))
"""Packages whose functions their names tell apart; a user's function may have other code tomorrow."""
_OBSERVING = frozenset(("torch", "transformers"))
"""Packages whose hooks only count, or collect what a layer returned."""
_DEEPEST = 8
_SCALARS = bool | str | numbers.Real


def settings_sha256(module: nn.Module) -> str:
    """Return a sha256 over everything but weights that decides what a module computes.

    These are, for it and all its submodules: the class, the configuration, public attributes that are numbers, texts,
    functions, or containers of these, which adapters of PEFT take part and how much, attention processors and hooks
    by their class, their code and their attributes, and functions that a user put in place of the class's own. Of
    private attributes, and of what a hook holds, only the fractions count, because libraries and hooks keep in the rest
    what they remember between calls. What is None, False or empty counts as what is not there.

    Args:
        module: is not changed.

    Returns:
        16 hexadecimal digits, equal in every process and wherever the module was loaded from.
    """
    configurations: dict[int, Json] = {}
    kinds = {type(child): None for child in module.modules()}
    told: list[Json] = [_told(global_hooks()), [[_name(kind), _own_code(kind)] for kind in kinds]]
    told += [[name, _of_module(child, configurations)] for name, child in module.named_modules()]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _of_module(module: nn.Module, configurations: dict[int, Json]) -> JsonObject:
    found: JsonObject = {"class": _name(type(module))}
    for name, value in vars(module).items():
        if name in HOOKS:
            found[name] = [_told(hook, True) for hook in value.values() if _package(hook) not in _OBSERVING]
        elif name == "_active_adapter":
            found[name] = _told([value] if isinstance(value, str) else value)
        elif name not in _OF_EVERY_MODULE | _NO_MATTER:
            private = name.startswith("_") and name not in _ADAPTERS
            found[name] = None if private and callable(value) else _told(value, private)
    configuration = vars(module).get("_internal_dict", vars(module).get("config"))
    if configuration is not None:
        if id(configuration) not in configurations:  # submodules share it
            configurations[id(configuration)] = _told(_options(configuration))
        found["configuration"] = configurations[id(configuration)]
    return {name: value for name, value in found.items() if value}


def _options(configuration: object) -> JsonObject:
    """Return the options of a configuration of diffusers or transformers, without those that say how it was stored."""
    values = configuration if isinstance(configuration, Mapping) else getattr(configuration, "to_dict", dict)()
    return {key: value for key, value in values.items() if not key.startswith("_") and key not in _OF_FILES}


def _told(value: object, fractions: bool = False, depth: int = 0) -> Json:
    """Return a value as JSON values that are the same in every process; None for what does not count.

    Args:
        value: anything.
        fractions: leave out texts, booleans, whole numbers and lists.
        depth: of the value in others.
    """
    if depth > _DEEPEST or isinstance(value, nn.Module | torch.Tensor):
        return None
    if isinstance(value, bool | str):
        return None if fractions else value or None
    if isinstance(value, numbers.Real):
        return None if fractions and isinstance(value, numbers.Integral) else _number(value)
    if isinstance(value, Mapping):
        items = {str(key): _told(item, fractions, depth + 1) for key, item in value.items()}
        return {key: item for key, item in items.items() if item is not None} or None
    if isinstance(value, list | tuple | AbstractSet):
        if fractions and not isinstance(value, tuple):
            return None
        told = [_told(item, fractions, depth + 1) for item in value]
        told = sorted(told, key=json.dumps) if isinstance(value, AbstractSet) else told
        return told if any(item is not None for item in told) else None
    if isinstance(value, type | torch.dtype):
        return _name(value) if isinstance(value, type) else str(value)
    return _called(value, fractions, depth + 1) if callable(value) else None


def _number(value: numbers.Real) -> int | float:
    if isinstance(value, numbers.Integral):
        return int(value)
    number = float(value)
    return int(number) if number.is_integer() else number  # 1 and 1.0 compute the same


def _called(value: Callable[..., object], fractions: bool, depth: int) -> Json:
    """Return what a function, or an object that is called as one, does, as far as can be said."""
    if isinstance(value, functools.partial):
        return ["partial", _told(value.func, fractions, depth), *map(_cell, (value.args, value.keywords))]
    if inspect.ismethod(value):
        return ["method", _told(value.__func__, fractions, depth), _attributes(value.__self__, True, depth)]
    if (code := getattr(value, "__code__", None)) is not None:
        held = [_content(cell) for cell in value.__closure__ or ()]
        own = None if _package(value) in _KNOWN else _code(code)
        return [_name(value), own, [_cell(each) for each in (*held, value.__defaults__, value.__kwdefaults__)]]
    if inspect.isbuiltin(value) or not hasattr(value, "__dict__"):
        return getattr(value, "__name__", None) or _name(type(value))
    kind = type(value)
    if _name(kind).partition(".")[0] == "diffusers" and kind.__name__ in _SAME_ATTENTION:
        return None
    return [_name(kind), _own_code(kind), _attributes(value, fractions, depth)]


def _cell(value: object) -> Json:
    """Return what a function holds: numbers and texts, and only the fractions of what could be its memory."""
    return _told(value, not isinstance(value, _SCALARS | tuple), _DEEPEST - 2)


def _content(cell: object) -> object:
    try:
        return getattr(cell, "cell_contents", None)
    except ValueError:  # a cell that is still empty
        return None


def _attributes(value: object, fractions: bool, depth: int) -> Json:
    if isinstance(value, nn.Module):
        return None
    attributes = getattr(value, "__dict__", {}).items()
    held = {name: _told(each, fractions or name.startswith("_"), depth) for name, each in attributes}
    return {name: each for name, each in held.items() if each is not None} or None


def _own_code(kind: type) -> Json:
    """Return the code of those functions of a class, by name, that come from none of the known packages."""
    if issubclass(kind, nn.Module):
        functions = methods_of(kind)
    else:
        functions = {name: one for base in reversed(kind.__mro__) for name, one in vars(base).items()}
    own = {name: getattr(one, "__code__", None) for name, one in functions.items() if _package(one) not in _KNOWN}
    return {name: _code(code) for name, code in own.items() if isinstance(code, CodeType)} or None


def _code(code: CodeType) -> Json:
    constants = [_code(one) if isinstance(one, CodeType) else _told(one) for one in code.co_consts]
    return [code.co_code.hex(), [*code.co_names], constants]


def _package(function: object) -> str:
    function = function.func if isinstance(function, functools.partial) else function
    named = getattr(function, "__globals__", {}).get("__name__") or getattr(function, "__module__", "")
    return str(named).partition(".")[0]


def _name(value: object) -> str:
    """Return package and name of a class or function; its file may be another in the next version of the package."""
    return f"{str(getattr(value, '__module__', '')).partition('.')[0]}.{getattr(value, '__qualname__', '')}"
