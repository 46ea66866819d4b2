"""The launches of operations on meta tensors, and their Triton kernels compiled; the package imports without Triton."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from torch._ops import OpOverload

from diffexplain_fast.ops._register import launcher

if TYPE_CHECKING:
    from diffexplain_fast.kernels.configs import Launched
    from diffexplain_fast.kernels.precompile import Compiler

_OURS, _TRITON = "diffexplain_fast::", "_triton"


def launches_of(func: OpOverload, args: Sequence[object], kwargs: Mapping[str, object]) -> "list[Launched]":
    """Return what the launcher of an operation would launch, empty unless the operation is the package's with Triton.

    Args:
        func: any operation.
        args: its arguments, of which the tensors are on the meta device.
        kwargs: its arguments by keyword.
    """
    name = func._schema.name
    if not (name.startswith(_OURS) and name.endswith(_TRITON)):
        return []
    from diffexplain_fast.kernels.configs import noted

    with noted() as launches:
        launcher(name.removeprefix(_OURS).removesuffix(_TRITON))(*args, **kwargs)
    return launches


def compile_kinds(
    launches: "Iterable[Launched]", threads: int, device: Callable[[], AbstractContextManager[object]]
) -> tuple[int, list[Exception]]:
    """Compile the kernels of launches, each kind of launch once in this process.

    Args:
        launches: noted launches.
        threads: how many kernels are compiled at once.
        device: returns a context that makes the launches' device current for a thread.

    Returns:
        The number of kinds, and what went wrong.
    """
    from diffexplain_fast.kernels.precompile import kinds_of

    kinds = {kind for launch in launches for kind in kinds_of(launch)}
    return len(kinds), _compiler().compile(kinds, threads, device)


@functools.cache
def _compiler() -> "Compiler":
    """Return the compiler of this process, which knows what was compiled before."""
    from diffexplain_fast.kernels.precompile import Compiler

    return Compiler()
