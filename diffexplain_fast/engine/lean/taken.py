"""Which of the user's modules a lean model has read: a module that nobody read would be left out of the picture."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from torch import nn

_HOLDING = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_NEUTRAL = (nn.Identity, *_DROPOUTS)
"""Modules that only hold others, and those that change nothing in eval mode."""
_TAKEN: ContextVar[Counter[int] | None] = ContextVar("taken", default=None)
"""How many times each module was read, by id; None where nobody asks."""
_PLACES: ContextVar[Mapping[int, str]] = ContextVar("places")
"""Where each module and each attention processor of the model that is read stands, by id."""


class UnsupportedModelError(ValueError):
    """A part of a model that the fast engine does not know; the model then runs through its own modules."""


def unsupported(part: object, what: str) -> UnsupportedModelError:
    """Return the error for a part of a model that is read, which names the place of the part.

    Args:
        part: a module, or an attention processor.
        what: what it is, and what was expected.
    """
    place = _PLACES.get({}).get(id(part), "")
    return UnsupportedModelError(f"{place}: {what}" if place else what)


def class_of(part: object) -> str:
    """Return the name of an object's class with its module, because several packages have a ``Linear``."""
    kind = type(part)
    return f"{kind.__module__}.{kind.__name__}"


@contextmanager
def every_module_taken(model: nn.Module, *parts: nn.Module) -> Iterator[None]:
    """Refuse a model of which the code inside of the context does not ``take`` every module.

    A module that stands in several places of the parts has to be taken as often. Modules that change nothing in eval
    mode, such as ``torch.nn.Dropout``, need not be taken.

    Args:
        model: the model; messages name its modules.
        *parts: the parts of it that are read; the whole model if there are none.

    Raises:
        UnsupportedModelError: when the context is left, if a module was not taken; names the first one.
    """
    counts: Counter[int] = Counter()
    taken, placed = _TAKEN.set(counts), _PLACES.set(_places(model))
    try:
        yield
    finally:
        _TAKEN.reset(taken)
        _PLACES.reset(placed)
    names = {id(module): name for name, module in model.named_modules()}
    for part in parts or (model,):
        for within, module in part.named_modules(remove_duplicate=False):
            counts[id(module)] -= 1
            if counts[id(module)] < 0 and type(module) not in (*_HOLDING, *_NEUTRAL):
                name = ".".join(filter(None, (names[id(part)], within)))
                raise UnsupportedModelError(f"{name} is a {class_of(module)}, which is not known there")


def _places(model: nn.Module) -> dict[int, str]:
    places: dict[int, str] = {}
    for name, module in model.named_modules():
        places[id(module)] = name
        if (processor := vars(module).get("processor")) is not None:
            places.setdefault(id(processor), f"{name}.processor")
    return places


def take(*modules: object) -> None:
    """Say that a lean model computes what these modules compute, without their submodules."""
    counts = _TAKEN.get()
    if counts is not None:
        counts.update(map(id, modules))


def take_whole(module: nn.Module) -> None:
    """Say that a lean model calls a module itself, with its submodules."""
    take(*(child for _, child in module.named_modules(remove_duplicate=False)))
