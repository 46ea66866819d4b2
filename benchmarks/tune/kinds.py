"""Kinds of launch: launches of the Triton kernels are taken instead of run, and each kind is compiled only once."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from diffexplain_fast.kernels import configs
from torch import Tensor

_OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")
Take = Callable[[str, Any, Any, Any, dict[str, Any]], None]
"""The function that gets a launch: entry of ``CONFIGS``, kernel, grid, key, and arguments without block sizes."""


@contextmanager
def taken(take: Take) -> Iterator[None]:
    """Give every launch to a function while the context is open, and launch nothing."""
    run, configs._run = configs._run, take
    try:
        yield
    finally:
        configs._run = run


def forms(kernel: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the machine code of a launch follows from, by the name of each argument, block size and option."""
    exact = {*_OPTIONS, *(kernel.arg_names[i] for i in kernel.constexprs)}
    return {name: value if name in exact else _form(value) for name, value in arguments.items()}


def kind(kernel: Any, given: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the key of a launch's machine code: the kernel, and the result of ``forms``."""
    return kernel, *sorted((name, str(form)) for name, form in given.items())


def _form(value: Any) -> Any:
    """The form that machine code follows from: a tensor's dtype; of a number whether it is 1 or a multiple of 16."""
    if isinstance(value, Tensor | float):
        return value.dtype if isinstance(value, Tensor) else 0.5
    return (16 if value % 16 == 0 else 3) if type(value) is int and value > 1 else value
