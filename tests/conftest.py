"""The conditions of every test: no network, few threads, a fixed seed; and a count of the tests with a marker."""

import importlib.util
import os
import random
import signal
from collections.abc import Generator

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "0")  # explicit, because the default changes in Triton 3.10

import numpy as np
import pytest
import torch

if importlib.util.find_spec("triton") and not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when a kernel is decorated, so it cannot be set later

from tests.interpreter import skipped_without_loops, why_no_loops

_NO_LOOPS = why_no_loops()

# A shell that starts the tests in the background makes them ignore Ctrl-C, which some of them test.
signal.signal(signal.SIGINT, signal.default_int_handler)

_MARKED = ("gpu", "slow")
"""Markers whose tests are counted in the summary."""
_THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2  # with more threads, workers would wait for one another
os.environ["OMP_NUM_THREADS"] = str(_THREADS)  # of the processes that tests start
torch.set_num_threads(min(_THREADS, torch.get_num_threads()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse names of tests that differ between processes; skip tests that need a CUDA device if there is none."""
    for item in items:
        if " at 0x" in item.nodeid:  # workers of pytest-xdist would refuse to begin
            raise pytest.UsageError(f"{item.nodeid}: wanted ids of the parameters without addresses in memory")
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Skip tests that Triton's interpreter cannot run with the installed versions."""
    with skipped_without_loops(_NO_LOOPS):
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many marked tests ran and how many were skipped."""
    for marker in _MARKED:
        found = {
            outcome: len(
                {report.nodeid for report in terminalreporter.getreports(outcome) if marker in report.keywords}
            )
            for outcome in ("passed", "failed", "skipped")
        }
        terminalreporter.write_line(
            f"marked {marker}: {found['passed'] + found['failed']} run, {found['skipped']} skipped"
        )


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Start every test from the same global random state, so that no test depends on the order."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def poisoned_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill new memory with NaN, so that elements that a kernel does not write are seen."""
    for name in ("empty", "empty_like", "empty_strided"):

        def nan(*args: object, _real: object = getattr(torch, name), **options: object) -> torch.Tensor:
            made = _real(*args, **options)  # type: ignore[operator]
            return made.fill_(float("nan")) if made.is_floating_point() else made

        monkeypatch.setattr(torch, name, nan)
