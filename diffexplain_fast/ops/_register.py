"""Schemas and fake kernels of the raw functions, which exist also without compiled libraries and without Triton.

Each raw function has two names: ``<name>``, which the C++ and CUDA libraries implement, and ``<name>_triton``.
"""

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor, library

_KERNELS: dict[str, Callable[[], ModuleType]] = {}


def register(name: str, schema: str, fake: Callable[..., object], kernels: Callable[[], ModuleType]) -> None:
    """Define a raw function, its fake kernel, and its Triton twin.

    Args:
        name: name of the raw function and of the launcher.
        schema: arguments and results in torch's schema language.
        fake: function that returns empty results for the arguments, for tracing.
        kernels: function that imports the module with the Triton launcher ``name``; it is called at the first launch,
            because the package must import without Triton.
    """
    triton = f"diffexplain_fast::{name}_triton"
    for full in (f"diffexplain_fast::{name}", triton):
        library.define(full, schema)
        library.register_fake(full, fake)

    _KERNELS[name] = kernels

    def launch(*arguments: object) -> object:
        return launcher(name)(*arguments)

    library.impl(triton, ("cuda", "cpu"), launch)  # on the CPU in the interpreter


def launcher(name: str) -> Callable[..., object]:
    """Return the Triton launcher of a raw function; imports Triton."""
    return getattr(_KERNELS[name](), name)


def channels_last(tensor: Tensor) -> Tensor:
    """Return the tensor [N, C, H, W] in channels-last memory format."""
    return tensor.contiguous(memory_format=torch.channels_last)


def rows(tensor: Tensor) -> Tensor:
    """Return [..., D] as [R, D]; a tensor [R, D] is returned itself, because a view costs more than a small kernel."""
    if tensor.ndim == 2:
        return tensor
    return tensor.flatten(0, -2) if tensor.ndim > 1 else tensor[None]
