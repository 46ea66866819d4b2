"""A hash of a set of weights, so that a result can identify the models that produced it."""

import hashlib

import torch
from torch import nn


def weights_sha256(**modules: nn.Module) -> str:
    """Return the sha256 over every parameter and stored buffer of named modules: names, dtypes, shapes, bytes.

    Args:
        modules: the modules by component name; their order does not matter.

    Returns:
        64 hexadecimal digits, equal on every device.
    """
    digest = hashlib.sha256()
    for component, module in sorted(modules.items()):
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{component}.{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(memoryview(raw.numpy()))
    return digest.hexdigest()
