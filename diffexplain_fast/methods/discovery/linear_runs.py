"""What the linear layers of a classifier take and give in a run, in which one layer's output may be exchanged."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import cast

from torch import Tensor, nn

from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.hooked import uncompiled
from diffexplain_fast.models.layers import first_tensor, runs_hooks


@dataclass
class Run:
    """What one run of a classifier shows.

    Attributes:
        logits: [B, C].
        given: what the layer gave, once for each of its calls.
        linear: each linear layer, or convolution of one pixel, in the order of their last calls, to what it took and
            gave.
    """

    logits: Tensor
    given: list[Tensor] = field(default_factory=list)
    linear: dict[nn.Module, tuple[Tensor, Tensor]] = field(default_factory=dict)


@contextmanager
def inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what a linear layer takes, [B, units] by ``units_in`` in each run, while the context is open."""
    found: list[Tensor] = []
    handle = module.register_forward_hook(lambda _, args, __: found.append(units_in(module, args[0])))
    try:
        with uncompiled():
            yield found
    finally:
        handle.remove()


def units_in(module: nn.Module, taken: Tensor) -> Tensor:
    """Return the mean over positions [B, units] of what a linear layer, or a convolution of one pixel, takes."""
    taken = taken.movedim(1 if isinstance(module, nn.Conv2d) else -1, 1)
    return taken.reshape(*taken.shape[:2], -1).mean(2)


def run_of(classifier: Classifier, layer: str, pixels: Tensor, put: Tensor | None = None) -> Run:
    """Run a classifier on pictures, and keep the graph unless the layer's output is exchanged.

    Args:
        classifier: of a module.
        layer: dotted name.
        pixels: [B, 3, H, W] in [0, 1].
        put: what the layer gives instead; None for its own output.
    """
    run = Run(pixels)
    modules = dict(cast(nn.Module, classifier.model).named_modules(remove_duplicate=False))

    def exchange(_: nn.Module, __: object, output: object) -> object:
        own = first_tensor(output, layer)
        run.given.append((own if put is None or put.shape != own.shape else put).clone())
        return _with_first(output, run.given[-1].clone())  # the next module may work in place

    def look(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if args:
            run.linear.pop(module, None)
            run.linear[module] = args[0], output
        return output.clone()

    classifier.settle(pixels)  # before hooks exist, which would see the probe pictures
    with ExitStack() as hooks, uncompiled():
        for module in dict.fromkeys(modules.values()):
            if runs_hooks(module) and _is_linear(module):
                hooks.callback(module.register_forward_hook(look).remove)
        hooks.callback(modules[layer].register_forward_hook(exchange).remove)
        run.logits = classifier(pixels.clone().requires_grad_(put is None))
    return run


def _is_linear(module: nn.Module) -> bool:
    pixel = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
    return pixel or isinstance(module, nn.Linear)


def _with_first(output: object, tensor: Tensor) -> object:
    """Return what a layer gave with another first tensor."""
    if isinstance(output, Mapping):
        place = next(key for key, value in output.items() if isinstance(value, Tensor))
        return type(output)(**{**output, place: tensor})
    if not isinstance(output, tuple | list):
        return tensor
    at = next(i for i, value in enumerate(output) if isinstance(value, Tensor))
    parts = [*output[:at], tensor, *output[at + 1 :]]
    return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
