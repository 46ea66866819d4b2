"""Signals wait while a mode of torch is open, come when it is closed, and come at once when they are repeated."""

import signal
import threading
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from diffexplain_fast.engine.memory.counting import count, live_bytes
from diffexplain_fast.engine.memory.interrupts import uninterrupted


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """Return a signal that raises a KeyboardInterrupt, as under the command bench."""
    before = signal.signal(request.param, signal.default_int_handler)
    yield request.param
    signal.signal(request.param, before)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_signal_waits_until_a_count_is_done(number: signal.Signals, device: str) -> None:
    ended = []

    def interrupted(x: Tensor) -> Tensor:
        signal.raise_signal(number)
        out = (x * 2).sum()
        ended.append(out)
        return out

    with pytest.raises(KeyboardInterrupt):
        count(interrupted, [torch.ones(2, device=device)], [])
    assert len(ended) == 1 and signal.getsignal(number) is signal.default_int_handler


def test_a_signal_in_a_finalizer_is_not_lost(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), live_bytes():
        tensor = torch.ones(3)
        weakref.finalize(tensor, signal.raise_signal, number)
        del tensor


def test_a_second_signal_does_not_wait(number: signal.Signals) -> None:
    seen = []
    with pytest.raises(KeyboardInterrupt), uninterrupted(), live_bytes():
        for _ in range(3):
            signal.raise_signal(number)
            seen.append(number)
    assert len(seen) == 2, "each of the two contexts lets one signal wait"
    assert signal.getsignal(number) is signal.default_int_handler


def test_a_failure_beside_a_signal_is_its_context(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt) as caught, uninterrupted():
        signal.raise_signal(number)
        raise ValueError("both")
    assert isinstance(caught.value.__context__, ValueError)


def test_handlers_of_the_system_and_of_other_threads_stay() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with uninterrupted():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    found: list[object] = []

    def elsewhere() -> None:
        with live_bytes():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
