"""What a module that is an own eye holds beside its weights, where that can be told in another process, too."""

from collections.abc import Iterator
from types import FunctionType

from torch import nn

from diffexplain_fast.models.fingerprint import weights_sha256
from diffexplain_fast.models.module_settings import settings_sha256
from diffexplain_fast.models.telling import Telling, digest_of
from diffexplain_fast.models.written import methods, own, written_by
from diffexplain_fast.records import Json

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_BOOKKEEPING = "_abc_impl"
"""What Python keeps in every abstract class."""


def content_of_eye(eye: nn.Module) -> str | None:
    """Return a text of the weights, the settings and the code of a module, equal in every process.

    Args:
        eye: its submodules count, too.

    Returns:
        Two sha256. None where something that may decide an answer cannot be told: a hook, a tensor that is not stored
        with the weights, an attribute that a run writes, or one of an own class that is anything else than numbers,
        texts and lists, tuples or dicts of them, such as a function. Of what the code reads from outside of the class,
        such as a global variable, nothing is known.

    Raises:
        TypeError: weights without content.
    """
    told: list[Json] = [settings_sha256(eye)]
    for name, module in eye.named_modules():
        held = _held(module)
        if held is None or any(vars(module)[hook] for hook in _HOOKS):
            return None
        told.append([name, held])
    return f"{weights_sha256(eye=eye)} {digest_of(told)}"


def _held(module: nn.Module) -> Json:
    """Return the class, the attributes and the code of a module; None where one of them cannot be told."""
    kind = type(module)
    name = f"{kind.__module__}.{kind.__qualname__}"
    attributes = {key: value for key, value in vars(module).items() if key not in _OF_EVERY_MODULE}
    if not own(kind):  # the settings have what is the library's
        return [name] if all(_plain(value) or not own(value) for value in attributes.values()) else None
    written = written_by(*methods(kind), kind=kind)
    parts = [_of_class(base) for base in kind.__mro__ if own(base) and base is not object]
    told = all(_plain(value) and key not in written for key, value in attributes.items()) and None not in parts
    return [name, repr(sorted(attributes.items())), parts] if told and not _unstored(module) else None


def _of_class(kind: type) -> Json:
    """Return the functions and values of an own class; None where one of them cannot be told."""
    told: dict[str, Json] = {}
    for name, value in vars(kind).items():
        if isinstance(value, FunctionType):
            layers = [layer for layer in _layers(value) if own(layer)]
            if any(not _known(layer) for layer in layers):
                return None
            told[name] = [Telling().value(layer) for layer in layers]
        elif not name.startswith("__") and name != _BOOKKEEPING:
            if not _plain(value):
                return None
            told[name] = repr(value)
    return [kind.__qualname__, told]


def _layers(function: object) -> Iterator[FunctionType]:
    while isinstance(function, FunctionType):
        yield function
        function = getattr(function, "__wrapped__", None)


def _known(function: FunctionType) -> bool:
    """Return whether a function holds nothing but its class and plain defaults."""
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    return not {*function.__code__.co_freevars} - {"__class__"} and all(map(_plain, defaults))


def _unstored(module: nn.Module) -> bool:
    """Return whether a module has buffers that are not stored with its weights."""
    return any(name not in module.state_dict() for name, value in module.named_buffers() if value is not None)


def _plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(map(_plain, (*value, *value.values())))
    return value is None or type(value) in (bool, int, float, str)
