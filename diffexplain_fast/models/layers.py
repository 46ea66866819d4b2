"""Layers of a classifier: looked up by name or module; the tensor that counts as their output."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from diffexplain_fast.errors import unknown_name, wrong_type, wrong_value


def named_layer(model: object, name: str, layer: str | nn.Module) -> tuple[str, nn.Module]:
    """Return the dotted name of a layer and the layer.

    Args:
        model: model that has the layer.
        name: name of the model in messages.
        layer: dotted name of the layer, or its module.

    Raises:
        TypeError: neither a name nor a module.
        UnknownNameError: no such name; the message names the five nearest.
        ValueError: a module that is not part of the model, a layer inside of a scripted or traced module, which runs no
            hooks, or a model that has no modules.
    """
    if not isinstance(layer, str | nn.Module):
        raise wrong_type("layer", "a dotted name or a module", layer)
    if not isinstance(model, nn.Module):
        raise wrong_value("layer", "a classifier made from a torch module", f"the function {name}")
    names = {known: module for known, module in model.named_modules(remove_duplicate=False) if known}
    if isinstance(layer, str):
        if layer not in names:
            raise unknown_name("layer", layer, names)
        found = layer, names[layer]
    else:
        found = next(((known, module) for known, module in names.items() if module is layer), ("", layer))
    if not found[0]:
        raise wrong_value("layer", f"a module inside {name}", f"a {type(layer).__name__} that is not part of it")
    parts = found[0].split(".")
    around = [model, *(names.get(".".join(parts[:depth])) for depth in range(1, len(parts)))]
    # Of the modules of torch.jit only one that was traced by itself runs hooks, and only its own.
    if any(isinstance(each, torch.jit.ScriptModule) for each in around) or not runs_hooks(found[1]):
        raise wrong_value("layer", "a layer of an ordinary module", f"{found[0]}, a scripted or traced one")
    return found


def runs_hooks(module: nn.Module) -> bool:
    """Return whether a module runs its hooks if ordinary code calls it: any but a scripted one."""
    return not isinstance(module, torch.jit.ScriptModule) or isinstance(module, torch.jit.TopLevelTracedModule)


def checked_layers(layers: Iterable[str | nn.Module]) -> tuple[str | nn.Module, ...]:
    """Return layers without repetitions.

    Args:
        layers: dotted names or modules.

    Raises:
        TypeError: a single name or module, or a value that is not a collection of them.
    """
    if isinstance(layers, str | nn.Module) or not isinstance(layers, Iterable):
        raise wrong_type("layers", "a list of dotted names or modules", layers)
    return tuple(dict.fromkeys(layers))


def first_tensor(output: object, layer: str | nn.Module) -> Tensor:
    """Return a layer's output, or the first tensor in it.

    Args:
        output: value that the layer returned.
        layer: name of the layer in the message.

    Raises:
        TypeError: the output contains no tensor.
    """
    values = (
        output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else [output]
    )
    tensor = next((value for value in values if isinstance(value, Tensor)), None)
    if tensor is None:
        raise wrong_type("layer", f"a module that returns a tensor, which {layer} does not", output)
    return tensor
