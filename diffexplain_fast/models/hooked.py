"""The outputs of a model's layers, read by hooks, which every kind of model has to run."""

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from diffexplain_fast.models.layers import first_tensor

_Layer = str | nn.Module


class _Switch:
    """Switches compiled functions off while any context is open, in all threads.

    Attributes:
        open: number of open contexts.
    """

    def __init__(self) -> None:
        self._lock, self._off, self.open = threading.Lock(), ExitStack(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self.open:
                self._off.enter_context(torch.compiler.set_stance("force_eager"))
            self.open += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.open -= 1
            if not self.open:
                self._off.close()


_OFF = _Switch()


@contextmanager
def uncompiled() -> Iterator[None]:
    """Let compiled models run operation by operation while the context is open.

    What ``torch.compile`` compiled before a hook existed runs without the hook, and what it compiled with a hook would
    run it later too. Several contexts may be open at once, nested or in several threads.
    """
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and the import takes a second
        yield
        return
    with _OFF:
        yield


@contextmanager
def outputs_of(layers: Mapping[_Layer, nn.Module]) -> Iterator[dict[_Layer, Tensor]]:
    """Collect the outputs of modules while the context is open, under the keys of the modules.

    A module that runs several times gives its last output; from a tuple or dict, the first tensor is used.

    Args:
        layers: modules that run hooks, see ``layers.named_layer``.

    Raises:
        TypeError: in the run of a module, which returns no tensor.
    """
    found: dict[_Layer, Tensor] = {}
    handles: list[RemovableHandle] = []
    try:
        for key, layer in layers.items():

            def keep(module: nn.Module, args: object, output: object, key: _Layer = key) -> None:
                found[key] = first_tensor(output, key).clone()  # the next module may work in place

            handles.append(layer.register_forward_hook(keep))
        with uncompiled():
            yield found
    finally:
        for handle in handles:
            handle.remove()
