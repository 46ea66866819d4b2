"""Options of a method: where ``help()`` shows them, and what is said of one that does not exist."""

import functools
import inspect
import re
from collections.abc import Callable, Collection
from dataclasses import Field, fields
from typing import ParamSpec, TypeVar

from diffexplain_fast.errors import unknown_name

F = TypeVar("F", bound=Callable[..., object])
P = ParamSpec("P")
R = TypeVar("R")


def arguments_of(function: Callable[..., object], *but: str) -> list[str]:
    """Return the names of a function's arguments, without ``self``, ``**options`` and some others."""
    known = inspect.signature(function).parameters.values()
    return [
        one.name for one in known if one.kind is not inspect.Parameter.VAR_KEYWORD and one.name not in ("self", *but)
    ]


def names_nearest(options: Collection[str] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that refuses an argument by a name that does not exist, before anything is loaded or computed.

    The error is a TypeError, as Python's own, and names the five nearest arguments.

    Args:
        options: names of what a function takes as ``**options``.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        known = dict.fromkeys((*arguments_of(function), *options))

        @functools.wraps(function)
        def checked(*args: P.args, **given: P.kwargs) -> R:
            for name in given:
                if name not in known:
                    raise TypeError(str(unknown_name("option", name, known)))
            return function(*args, **given)

        return checked

    return decorate


def takes(options: type) -> Callable[[F], F]:
    """Return a decorator that writes the fields of a dataclass in the place of ``**options`` of a function.

    Args:
        options: a dataclass whose docstring has an entry for each field under "Args:".
    """

    def document(function: F) -> F:
        known = inspect.signature(function)
        own = [one for one in known.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        kind = inspect.Parameter.KEYWORD_ONLY
        more = [
            inspect.Parameter(one.name, kind, default=one.default, annotation=_kinds(one)) for one in fields(options)
        ]
        vars(function)["__signature__"] = known.replace(parameters=[*own, *more])
        if function.__doc__ and options.__doc__:  # python -OO has none
            text, entries = inspect.cleandoc(function.__doc__), _entries(options)
            function.__doc__ = re.sub(r"(?m)^ +\*\*options: .*\n(?: {5,}.*\n)*", lambda _: entries, text)
        return function

    return document


def _kinds(option: "Field[object]") -> object:
    """Return the kinds that the function takes for an option, where they are more than the option's own."""
    return option.metadata.get("given", option.type)


def _entries(options: type) -> str:
    """Return the entries under "Args:" of a dataclass's docstring, each with its default."""
    text = inspect.cleandoc(options.__doc__ or "")
    block = re.search(r"(?ms)^Args:\n(.*?)(?=^\S|\Z)", text)
    entries = block[1].rstrip("\n") + "\n" if block else ""
    for one in fields(options):
        entry = rf"(?m)^( +{one.name}: .*\n(?: {{5,}}.*\n)*)"
        default = f"        Default: {one.default!r}.\n"
        entries = re.sub(entry, lambda found, default=default: found[1] + default, entries)
    return entries
