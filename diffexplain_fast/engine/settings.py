"""Settings of torch that hold for all threads, changed while a call runs and put back afterwards.

Only the named settings change. ``torch.backends.cudnn.flags`` would also set every other flag to a default: cuDNN off,
TF32 on.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch

ALGORITHMS = "deterministic algorithms"
FILL = "fill uninitialized memory"
CUDNN_DETERMINISTIC = "cuDNN deterministic"
CUDNN_BENCHMARK = "cuDNN benchmark"


class _Setting(NamedTuple):
    """How a setting is read and written."""

    read: Callable[[], object]
    write: Callable[..., None]


def _write_algorithms(value: tuple[bool, bool]) -> None:
    # torch.use_deterministic_algorithms would also set an option of the compiler.
    torch._C._set_deterministic_algorithms(value[0], warn_only=value[1])


_SETTINGS = {
    ALGORITHMS: _Setting(
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        _write_algorithms,
    ),
    FILL: _Setting(
        torch._C._get_deterministic_fill_uninitialized_memory, torch._C._set_deterministic_fill_uninitialized_memory
    ),
    # The properties of torch.backends.cudnn refuse to be set after torch.backends.disable_global_flags().
    CUDNN_DETERMINISTIC: _Setting(torch._C._get_cudnn_deterministic, torch._C._set_cudnn_deterministic),
    CUDNN_BENCHMARK: _Setting(torch._C._get_cudnn_benchmark, torch._C._set_cudnn_benchmark),
}
_LOCK = threading.Lock()
_HOLDERS: list[dict[str, object]] = []
"""For each open context, in the order of entry, the values that its settings had before."""


@contextmanager
def held_settings(choose: Callable[[], Mapping[str, object]]) -> Iterator[None]:
    """Hold settings at values while the context is open.

    Contexts may be nested, and may overlap in any order in several threads. A setting has its first value again when
    the last context that holds the setting is left.

    Args:
        choose: returns values by the names above. No other context is entered or left while the function runs.
    """
    before: dict[str, object] = {}
    try:
        with _LOCK:
            values = choose()
            before |= {name: _SETTINGS[name].read() for name in values}
            _HOLDERS.append(before)
            for name, value in values.items():
                _SETTINGS[name].write(value)
        yield
    finally:
        with _LOCK:
            _release(before)


def _release(before: dict[str, object]) -> None:
    """Put settings back; if a later context holds the same setting, that context puts it back instead."""
    place = next((i for i, holder in enumerate(_HOLDERS) if holder is before), None)
    if place is None:
        return
    later = _HOLDERS[place + 1 :]
    del _HOLDERS[place]
    for name, value in before.items():
        holder = next((holder for holder in later if name in holder), None)
        if holder is None:
            _SETTINGS[name].write(value)
        else:
            holder[name] = value
