"""Signals that wait while torch's C++ calls back into Python."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the context closes, if they would raise an exception.

    Under a dispatch mode, torch's C++ calls Python at places that no exception may leave: with fake tensors, a
    KeyboardInterrupt there ends the whole process by abort, and in a finalizer it is lost. A second signal of the same
    kind does not wait, so that what hangs can be stopped. In other threads than the main one nothing is raised.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    given = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in given.items() if callable(handler)}
    waiting: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        waiting.append(number)
        signal.signal(number, before[signal.Signals(number)])

    try:
        for number in before:
            signal.signal(number, wait)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in waiting:
            signal.raise_signal(late)
