"""What is held in memory all the time: the user's weights, and what lean models hold beside them."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn


def weight_bytes(modules: Sequence[nn.Module]) -> int:
    """Return the bytes of all parameters and buffers, shared ones once."""
    storages = {
        part.untyped_storage()._cdata: part.untyped_storage().nbytes()
        for module in modules
        for part in (*module.parameters(), *module.buffers())
    }
    return sum(storages.values())


def layout_bytes(models: Sequence[object], modules: Sequence[nn.Module]) -> int:
    """Return the bytes of what models hold beside the user's weights: weights in other layouts or dtypes.

    Args:
        models: lean or fallback models.
        modules: the user's UNet and VAE.
    """
    seen = {part.untyped_storage()._cdata for module in modules for part in module.parameters()}
    total = 0
    held = [value for model in models for value in vars(model).values() if isinstance(value, nn.Module)]
    for part in (*_inside(models), *(weight for module in held for weight in module.parameters())):
        if isinstance(part, Tensor):
            storage = part.untyped_storage()
            total += 0 if storage._cdata in seen else storage.nbytes()
            seen.add(storage._cdata)
        else:
            total += getattr(part, "layout_bytes", 0)
    return total


def held_tensors(models: Sequence[object]) -> list[Tensor]:
    """Return the tensors that models hold, but for oneDNN's layouts, which have no storage.

    Args:
        models: lean or fallback models, and modules.
    """
    own = [part for part in _inside(models) if isinstance(part, Tensor)]
    modules = [model for model in models if isinstance(model, nn.Module)]
    return own + [part for module in modules for part in (*module.parameters(), *module.buffers())]


def _inside(models: Sequence[object]) -> Iterator[object]:
    """Yield the tensors with a storage and the objects of ours that models consist of."""
    left = list(models)
    while left:
        part = left.pop()
        if isinstance(part, Tensor):
            if part.layout is torch.strided:  # oneDNN's layers count their own
                yield part
        elif isinstance(part, Mapping):
            left += part.values()
        elif isinstance(part, list | tuple):
            left += part
        elif type(part).__module__.startswith("diffexplain_fast."):
            left += vars(part).values()
            yield part


def available_bytes(device: torch.device) -> int | None:
    """Return the free bytes of a CUDA device, cached blocks of torch included; None elsewhere."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
