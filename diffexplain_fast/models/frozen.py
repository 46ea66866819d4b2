"""Running the user's modules without leaving a trace in them."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Generic, TypeVar

from torch import nn

_One = TypeVar("_One")


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Put modules into eval mode with no parameter requiring grad while the context is open.

    A graph recorded inside leads to the inputs alone; its backward may run after the context has closed. Contexts may
    be open at once, one in another or in several threads: the last one to close puts back what the first one found.

    Args:
        modules: every submodule's mode and every parameter's flag is put back at the end, also after an exception.
    """
    with ExitStack() as stack:
        stack.enter_context(_MODES.off(part for module in modules for part in module.modules()))
        stack.enter_context(_FLAGS.off(weight for module in modules for weight in module.parameters()))
        yield


class _Switch(Generic[_One]):
    """A flag of objects that is off while any context is open.

    Args:
        get: reads the flag of an object.
        put: writes it.
    """

    def __init__(self, get: Callable[[_One], bool], put: Callable[[_One, bool], object]) -> None:
        self._get, self._put = get, put
        self._lock = threading.Lock()
        self._before: dict[int, tuple[bool, int]] = {}  # by id: what it was, and how many contexts are open

    @contextmanager
    def off(self, objects: Iterable[_One]) -> Iterator[None]:
        """Put the flag of objects off while the context is open."""
        held: list[_One] = []
        try:
            with self._lock:
                for one in objects:
                    before, contexts = self._before.get(id(one), (self._get(one), 0))
                    self._put(one, False)
                    self._before[id(one)] = before, contexts + 1
                    held.append(one)
            yield
        finally:
            with self._lock:
                for one in held:
                    before, contexts = self._before.pop(id(one))
                    if contexts > 1:
                        self._before[id(one)] = before, contexts - 1
                    else:
                        self._put(one, before)


_MODES = _Switch[nn.Module](lambda part: part.training, lambda part, value: setattr(part, "training", value))
_FLAGS = _Switch[nn.Parameter](lambda weight: weight.requires_grad, lambda weight, value: weight.requires_grad_(value))
