"""Layers of a classifier: found by name or module, and what of their output counts."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from diffexplain_fast.errors import unknown_name, wrong_type, wrong_value


def named_layer(model: object, name: str, layer: str | nn.Module) -> tuple[str, nn.Module]:
    """Return the dotted name of a layer and the layer.

    Args:
        model: what may hold it.
        name: what the messages call the model.
        layer: dotted name, or the module itself.

    Raises:
        TypeError: neither.
        UnknownNameError: no such name; the message names the five nearest.
        ValueError: a module that is not part of the model, or a model that has no modules.
    """
    if not isinstance(layer, str | nn.Module):
        raise wrong_type("layer", "a dotted name or a module", layer)
    if not isinstance(model, nn.Module):
        raise wrong_value("layer", "a classifier made from a torch module", f"the function {name}")
    names = {known: module for known, module in model.named_modules(remove_duplicate=False) if known}
    if isinstance(layer, str):
        if layer not in names:
            raise unknown_name("layer", layer, names)
        return layer, names[layer]
    for known, module in names.items():
        if module is layer:
            return known, module
    raise wrong_value("layer", f"a module inside {name}", f"a {type(layer).__name__} that is not part of it")


def checked_layers(layers: Iterable[str | nn.Module]) -> tuple[str | nn.Module, ...]:
    """Return layers without repetitions.

    Args:
        layers: dotted names or modules.

    Raises:
        TypeError: a single name or module, or nothing that holds any.
    """
    if isinstance(layers, str | nn.Module) or not isinstance(layers, Iterable):
        raise wrong_type("layers", "a list of dotted names or modules", layers)
    return tuple(dict.fromkeys(layers))


def first_tensor(output: object, layer: str | nn.Module) -> Tensor:
    """Return a layer's output, or the first tensor in it.

    Args:
        output: what the layer returned.
        layer: what the message calls it.

    Raises:
        TypeError: no tensor in it.
    """
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else [output]
    tensor = next((part for part in parts if isinstance(part, Tensor)), None)
    if tensor is None:
        raise wrong_type("layer", f"a module that puts out a tensor, as {layer} does not", output)
    return tensor
