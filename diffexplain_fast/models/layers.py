"""Layers of a classifier: looked up by name or module; the tensor that counts as their output."""

from collections.abc import Iterable, Mapping

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
