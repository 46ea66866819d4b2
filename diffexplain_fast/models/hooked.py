"""The outputs of a model's layers, read by hooks, which every kind of model has to run."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from diffexplain_fast.models.layers import first_tensor

Layer = str | nn.Module
_Key = TypeVar("_Key", bound=Layer)


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
def outputs_of(layers: Mapping[_Key, nn.Module]) -> Iterator[dict[_Key, Tensor]]:
    """Collect the outputs of modules while the context is open, under the keys of the modules.

    A module that runs several times gives its last output; from a tuple or dict, the first tensor is used.

    Args:
        layers: modules that run hooks, see ``layers.named_layer``.

    Raises:
        TypeError: in the run of a module, which returns no tensor.
    """
    found: dict[_Key, Tensor] = {}
    handles: list[RemovableHandle] = []
    try:
        for key, layer in layers.items():

            def keep(module: nn.Module, args: object, output: object, key: _Key = key) -> None:
                found[key] = first_tensor(output, key).clone()  # the next module may work in place

            handles.append(layer.register_forward_hook(keep))
        with uncompiled():
            yield found
    finally:
        for handle in handles:
            handle.remove()


def have_rows(layers: Mapping[str, nn.Module], run: Callable[[Tensor], object], pixels: Tensor) -> dict[str, bool]:
    """Return of each layer whether its output has one row for each image first, as one image more shows.

    The output of a layer that has the sequence first, as most of ``nn.TransformerEncoderLayer``, may have as many rows
    as there are images by chance. Where the model takes no other number of images, or the layer does not run, True.

    Args:
        layers: modules by name, whose outputs had as many rows as images.
        run: runs the model, and draws random numbers of its own at most.
        pixels: images [B, 3, H, W] that the model took.

    Raises:
        torch.OutOfMemoryError, torch.AcceleratorError: of the run with one image more, which then tells nothing.
    """
    more = torch.cat([pixels, pixels[:1]]).detach()
    with torch.random.fork_rng(devices=[pixels.device] if pixels.device.type == "cuda" else []), torch.no_grad():
        try:
            with outputs_of(layers) as found:
                run(more)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except Exception:  # the user's code may refuse another number of images with any error
            return dict.fromkeys(layers, True)
    return {layer: layer not in found or found[layer].shape[:1] == (len(more),) for layer in layers}
