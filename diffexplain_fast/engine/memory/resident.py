"""Tensors that are in memory all the time: the user's weights, and the tensors that lean models hold beside them."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn


def weight_bytes(modules: Sequence[nn.Module]) -> int:
    """Return the bytes of all parameters and buffers, each storage once."""
    storages = {
        tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes()
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
    }
    return sum(storages.values())


def layout_bytes(models: Sequence[object], modules: Sequence[nn.Module]) -> int:
    """Return the bytes that models hold beside the user's weights: weights in other layouts or dtypes.

    Args:
        models: lean or fallback models.
        modules: the user's UNet and VAE.
    """
    seen = {weight.untyped_storage()._cdata for module in modules for weight in module.parameters()}
    total = 0
    held = [value for model in models for value in vars(model).values() if isinstance(value, nn.Module)]
    for value in (*_inside(models), *(weight for module in held for weight in module.parameters())):
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            total += 0 if storage._cdata in seen else storage.nbytes()
            seen.add(storage._cdata)
        else:
            total += getattr(value, "layout_bytes", 0)
    return total


def held_tensors(models: Sequence[object]) -> list[Tensor]:
    """Return the tensors that models and modules hold, except oneDNN's layouts, which have no storage."""
    tensors = [value for value in _inside(models) if isinstance(value, Tensor)]
    modules = [model for model in models if isinstance(model, nn.Module)]
    return tensors + [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]


def _inside(models: Sequence[object]) -> Iterator[object]:
    """Yield the tensors with a storage and the objects of ours that models consist of."""
    left = list(models)
    while left:
        value = left.pop()
        if isinstance(value, Tensor):
            if value.layout is torch.strided:  # oneDNN's layers have layout_bytes
                yield value
        elif isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value
        elif type(value).__module__.startswith("diffexplain_fast."):
            left += vars(value).values()
            yield value


def available_bytes(device: torch.device) -> int | None:
    """Return the free bytes of a CUDA device, cached blocks of torch included; None elsewhere."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
