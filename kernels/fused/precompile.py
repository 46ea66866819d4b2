"""Kernels compiled before their first launch, many at once: compiled at the launch, each would wait for the one before.

Triton finds machine code by the kernel's source, its constants and options, and a few facts about each argument. A
kind of launch is these facts; threads compile each kind into Triton's cache, in memory and on disk.
"""

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from diffexplain_fast.kernels.configs import Launched, chip, choices
from torch import Tensor

_OPTIONS = ("num_warps", "num_stages", "num_ctas", "enable_fp_fusion")
_UNIT = 16
"""Bytes by which addresses, and numbers by which integers, are divisible where a kernel moves wide words."""
_INT32 = 2**31
"""Integers from this one on are 64 bits wide."""


class Pointer(NamedTuple):
    """What machine code follows from of a tensor.

    Attributes:
        dtype: of its elements.
        aligned: whether its address is a multiple of 16 bytes; memory that torch allocates is.
    """

    dtype: torch.dtype
    aligned: bool


class Kind(NamedTuple):
    """A kind of launch: all launches of one kind have the same machine code.

    Attributes:
        kernel: ``@triton.jit`` function.
        given: name and form of every argument, block size and option, in the order in which a launch passes them.
    """

    kernel: triton.JITFunction
    given: tuple[tuple[str, Hashable], ...]

    def compile(self) -> None:
        """Compile for the current device, unless Triton's cache has the kind."""
        self.kernel.warmup(**{name: _stand_in(form) for name, form in self.given}, grid=(1,))


def kinds_of(launch: Launched) -> Iterator[Kind]:
    """Yield a kind for each configuration that a launch may have.

    Args:
        launch: a noted launch.
    """
    for options in choices(launch.entry):
        yield kind(launch.function, {**launch.arguments, **options})


def kind(kernel: triton.JITFunction, arguments: Mapping[str, object]) -> Kind:
    """Return the kind of a launch.

    Args:
        kernel: ``@triton.jit`` function.
        arguments: arguments, block sizes and options by name, in the order of the launch.
    """
    exact = {*_OPTIONS, *(name for name, mark in kernel.fn.__annotations__.items() if mark is tl.constexpr)}
    return Kind(kernel, tuple((name, value if name in exact else _form(value)) for name, value in arguments.items()))


class Compiler:
    """Compiles kinds of launch on threads; usable from several threads.

    Each kind is compiled once for each kind of chip in the life of this object: another chip has other machine code.
    """

    def __init__(self) -> None:
        self._begun: set[tuple[Hashable, Kind]] = set()
        self._lock = threading.Lock()

    def compile(
        self, kinds: Iterable[Kind], threads: int, device: Callable[[], AbstractContextManager[object]]
    ) -> list[Exception]:
        """Compile the kinds that are new to the device's chip, and return what went wrong, empty if nothing did.

        Args:
            kinds: kinds of launch.
            threads: how many kinds are compiled at once. Most of the work is done outside of Python's lock.
            device: returns a context that makes the device current for the thread that opens it.
        """
        with device():
            here = chip()
        with self._lock:
            fresh = [each for each in dict.fromkeys(kinds) if (here, each) not in self._begun]
            self._begun.update((here, each) for each in fresh)

        def compiled(each: Kind) -> None:
            with device():
                each.compile()

        pool = ThreadPoolExecutor(max(1, min(threads, len(fresh))))
        try:
            tasks = as_completed([pool.submit(compiled, each) for each in fresh])
            return [error for task in tasks if isinstance(error := task.exception(), Exception)]
        finally:
            pool.shutdown(cancel_futures=True)


def _form(value: object) -> Hashable:
    """The form that machine code follows from, which stands for all values of this form in ``_stand_in`` too."""
    if isinstance(value, Tensor):
        place = value.storage_offset() * value.element_size() if value.is_meta else value.data_ptr()
        return Pointer(value.dtype, place % _UNIT == 0)
    if isinstance(value, float):
        return 0.5
    if not isinstance(value, int) or isinstance(value, bool) or value == 1:
        assert isinstance(value, Hashable)
        return value
    return (_INT32 if value >= _INT32 else 0) + (_UNIT if value % _UNIT == 0 else 3)


def _stand_in(form: Hashable) -> object:
    if not isinstance(form, Pointer):
        return form
    return (triton.MockTensor if form.aligned else _Unaligned)(form.dtype)


class _Unaligned(triton.MockTensor):  # type: ignore[misc]
    """A tensor whose address is not a multiple of 16 bytes."""

    @staticmethod
    def data_ptr() -> int:
        return 2
