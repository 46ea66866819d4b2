"""What decides what a module computes and is no weight: options, adapters, processors, hooks, and replaced code."""

import functools
import inspect
from collections.abc import Mapping

from torch import nn

from diffexplain_fast.models.attributes import HOOKS
from diffexplain_fast.models.telling import Telling, digest_of, name_of
from diffexplain_fast.models.watch import global_hooks, home_of, package_of
from diffexplain_fast.models.written import remembered, written_by
from diffexplain_fast.records import Json, JsonObject

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_NO_MATTER = frozenset(("name_or_path", "gradient_checkpointing", "use_slicing", "warnings_issued", "config"))
"""Public attributes that are a place, a memory of warnings, or another way to the same numbers; the configuration is
read by itself."""
_ADAPTERS = frozenset(("_active_adapter", "_disable_adapters"))
"""Private attributes by which PEFT knows which adapters take part."""
_OF_FILES = frozenset(("transformers_version", "torch_dtype", "dtype", "architectures", "name_or_path"))
"""Options of a configuration that say how it was stored. Weights have a dtype of their own."""
_NOT_READ = ("_", "initializer_")
"""How options begin that are private, or decide how weights are drawn before training."""
_BASES = frozenset(("PretrainedConfig", "PreTrainedConfig"))
"""Names of the class of transformers whose options every model has: names of labels, and what is handed out."""
_COMPUTING = frozenset(("eos_token_id",))
"""Those of its options, in some versions, that an encoder of texts computes with: it takes the pooled state there."""
_HANDED_OUT = frozenset(("output_attentions", "use_cache"))
"""Options that decide what a model returns beside its states."""
_OBSERVING = frozenset(("torch", "transformers"))
"""Packages whose hooks only count, or collect what a layer returned."""


def settings_sha256(module: nn.Module) -> str:
    """Return a sha256 over everything but weights that decides what a module computes.

    These are, for it and all its submodules: the class, the configuration, public attributes that are numbers, texts,
    functions, or containers of these, which adapters of PEFT take part and how much, attention processors and hooks
    by their class, their code and their attributes, and functions that a user put in place of the class's own. Of
    private attributes, and of what a hook holds, only the fractions count, because libraries and hooks keep in the rest
    what they remember between calls. An attribute that own code writes while the model runs, such as a count of its
    calls, does not count; nor does a time in seconds since 1970. What is None, False or empty counts as what is not
    there.

    Args:
        module: is not changed.

    Returns:
        16 hexadecimal digits, equal in every process and wherever the module was loaded from, before and after a run.
    """
    configurations: dict[int, Json] = {}
    kinds = {type(child): None for child in module.modules()}
    tell = Telling()
    told: list[Json] = [tell.value(global_hooks()), [[name_of(kind), tell.own_code(kind)] for kind in kinds]]
    told += [[name, _of_module(child, tell, configurations)] for name, child in module.named_modules()]
    return digest_of(told)


def _of_module(module: nn.Module, tell: Telling, configurations: dict[int, Json]) -> JsonObject:
    found: JsonObject = {"class": name_of(type(module))}
    attributes = _without_accelerate(module)
    hooks = {name: [each for each in getattr(module, name).values() if _counts(each)] for name in HOOKS}
    found |= {name: [tell.value(hook, True) for hook in each] for name, each in hooks.items()}
    written = tell.written(type(module)) | _written_in(attributes, [hook for each in hooks.values() for hook in each])
    left_out = _OF_EVERY_MODULE | _NO_MATTER
    for name, value in attributes.items():
        if name == "_active_adapter":
            found[name] = tell.value([value] if isinstance(value, str) else value)
        elif name not in left_out and not remembered(name, value, written) and not _of_the_class(module, name, value):
            private = name.startswith("_") and name not in _ADAPTERS
            found[name] = None if private and callable(value) else tell.value(value, private, written=written)
    configuration = attributes.get("_internal_dict", attributes.get("config"))
    if configuration is not None:
        if id(configuration) not in configurations:  # submodules share it
            configurations[id(configuration)] = tell.value(_options(configuration))
        found["configuration"] = configurations[id(configuration)]
    return {name: value for name, value in found.items() if value}


def _counts(hook: object) -> bool:
    hook = hook.func if isinstance(hook, functools.partial) else hook
    return package_of(home_of(hook)) not in _OBSERVING


def _written_in(attributes: Mapping[str, object], hooks: list[object]) -> frozenset[str]:
    """Return the names of the attributes of a module that its hooks, its processor and replaced functions write."""
    functions = [value for value in (*attributes.values(), *hooks) if callable(value)]
    own = [value for value in functions if not isinstance(value, nn.Module | type)]
    return written_by(*own, *(vars(type(value)).get("__call__") for value in own))


def _of_the_class(module: nn.Module, name: str, value: object) -> bool:
    """Return whether an attribute is the class's own method, which something put there when it took itself off."""
    return inspect.ismethod(value) and value.__self__ is module and value.__func__ is getattr(type(module), name, None)


def _without_accelerate(module: nn.Module) -> dict[str, object]:
    """Return the attributes of a module as they are under a hook of accelerate, which moves inputs and weights."""
    attributes = vars(module)
    hook = attributes.get("_hf_hook")
    every = [*getattr(hook, "hooks", ()), hook]
    if "_old_forward" not in attributes or any(package_of(type(one).__module__) != "accelerate" for one in every):
        return attributes
    return {name: value for name, value in attributes.items() if name != "_hf_hook"} | {
        "forward": attributes["_old_forward"]
    }


def _options(configuration: object) -> JsonObject:
    """Return the options of a configuration of diffusers or transformers that decide what is computed."""
    values = configuration if isinstance(configuration, Mapping) else getattr(configuration, "to_dict", dict)()
    bases = [base for base in type(configuration).__mro__ if base.__name__ in _BASES]
    usual = {name for base in bases for name in vars(base())} - _COMPUTING
    left_out = _OF_FILES | _HANDED_OUT | usual
    return {key: value for key, value in values.items() if key not in left_out and not key.startswith(_NOT_READ)}
