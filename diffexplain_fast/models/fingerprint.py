"""A hash of a set of weights, so that a result can identify the models that produced it."""

import hashlib

import torch
from torch import nn

from diffexplain_fast.models.watch import Watch


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


class KeptHash:
    """The sha256 of the weights of modules, computed again only if one of them was edited or replaced."""

    def __init__(self) -> None:
        self._modules: dict[str, nn.Module] = {}
        self._watch: Watch | None = None
        self._sha256 = ""

    def of(self, **modules: nn.Module) -> str:
        """Return ``weights_sha256`` of modules."""
        if self._watch is None or self._modules != modules or self._watch.edited():
            self._watch, self._modules, self._sha256 = Watch(*modules.values()), modules, weights_sha256(**modules)
        return self._sha256

    def __reduce__(self) -> tuple[type["KeptHash"], tuple[()]]:
        """Copy and pickle nothing, because a copy's weights are others."""
        return KeptHash, ()
