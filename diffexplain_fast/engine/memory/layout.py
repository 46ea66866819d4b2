"""The user's convolution weights in the layout that a GPU convolves fastest, changed in place and put back.

Without it the engine keeps a second copy of weights that have another layout, 1.2 GiB for Stable Diffusion 1.5. Values,
shapes and parameters stay the same; only strides and addresses change.
"""

import weakref
from collections.abc import Collection

import torch
from torch import Tensor, nn

_Changed = list[tuple[Tensor, tuple[int, ...]]]
"""Weights with the strides that they had."""


class ConvertedLayout:
    """Holds the weights of all convolutions of some modules in channels-last layout until ``undo``.

    The layout is put back also when the object is no longer referenced. One weight at a time is held twice.

    Args:
        *modules: modules whose convolutions are converted.
        trained: parameters that stay as they are, because an optimizer holds tensors of their layout.
    """

    def __init__(self, *modules: nn.Module, trained: Collection[Tensor] = ()) -> None:
        kept = {*map(id, trained)}
        changed: _Changed = []
        self._finalizer = weakref.finalize(self, _put_back, changed)
        self._finalizer.atexit = False
        try:
            with torch.inference_mode(False), torch.no_grad():
                for module in modules:
                    for child in module.modules():
                        if isinstance(child, nn.Conv2d) and id(child.weight) not in kept and _differs(child.weight):
                            changed.append((child.weight, child.weight.stride()))
                            child.weight.data = child.weight.data.contiguous(memory_format=torch.channels_last)
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        """Give every weight the layout that it had; the second time there is nothing to do."""
        self._finalizer()


def _differs(weight: Tensor) -> bool:
    return not weight.is_inference() and not weight.is_contiguous(memory_format=torch.channels_last)


def _put_back(changed: _Changed) -> None:
    with torch.inference_mode(False), torch.no_grad():
        while changed:
            weight, strides = changed.pop()
            if weight.stride() != strides:
                weight.data = torch.empty_strided(
                    weight.shape, strides, dtype=weight.dtype, device=weight.device
                ).copy_(weight.data)
