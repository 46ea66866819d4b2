"""Running the user's modules without leaving a trace in them."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Put modules into eval mode with no parameter requiring grad while the context is open.

    A graph recorded inside leads to the inputs alone; its backward may run after the context has closed.

    Args:
        modules: every submodule's mode and every parameter's flag is put back at the end, also after an exception.
    """
    modes = [(part, part.training) for module in modules for part in module.modules()]
    flags = [(weight, weight.requires_grad) for module in modules for weight in module.parameters()]
    try:
        for part, _ in modes:
            part.training = False
        for weight, _ in flags:
            weight.requires_grad_(False)
        yield
    finally:
        for part, training in modes:
            part.training = training
        for weight, requires_grad in flags:
            weight.requires_grad_(requires_grad)
