"""Ours is no slower beside plain autograd than when the baseline was measured; a slowed one is noticed."""

import itertools
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_benchmark.utils import parse_compare_fail
from torch import Tensor

from benchmarks.ratios import BASELINE, NAMES, shares, small_workload
from diffexplain_fast.measuring.bench.rivals import RIVALS
from diffexplain_fast.measuring.bench.workloads import Images, Setting
from diffexplain_fast.storage import read_json
from tests.measuring.bench.tiny_workload import tiny_workload


class Clock:
    """A timer that stands still until it is advanced."""

    def __init__(self) -> None:
        self._now = 0.0

    def read(self) -> float:
        """Return the sum of everything that the clock was advanced by."""
        return self._now

    def advance(self, by: float) -> None:
        """Let some time pass, in any unit."""
        self._now += by


CLOCK = Clock()
"""It tells shares of plain autograd's time, which pytest-benchmark takes for seconds."""


@pytest.mark.slow
@pytest.mark.benchmark(timer=CLOCK.read)
@pytest.mark.parametrize("name", NAMES)
def test_share_of_plain_autograds_time(name: str, benchmark: Any) -> None:
    if benchmark.disabled:
        pytest.skip("pytest-benchmark is off in xdist's processes; make test runs it by itself")
    each = shares(small_workload(), name)
    benchmark.pedantic(lambda: CLOCK.advance(next(each)), rounds=9)


def allowed() -> Any:
    """The comparison that make test asks pytest-benchmark for."""
    (rule,) = re.findall(r"--benchmark-compare-fail=(\S+)", Path("Makefile").read_text())
    return parse_compare_fail(rule)


def slowed(make: Callable[[Setting], Images]) -> Callable[[Setting], Images]:
    """Return the same, much slower."""

    def made(setting: Setting) -> Images:
        images = make(setting)

        def late(embeds: Tensor, latents: Tensor) -> Tensor:
            began = time.perf_counter()
            found = images(embeds, latents)
            time.sleep(8 * (time.perf_counter() - began))
            return found

        return late

    return made


@pytest.mark.parametrize("name", NAMES)
def test_a_slowed_fast_path_fails_the_comparison(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given, threads = tiny_workload(torch.device("cpu"), torch.float32), torch.get_num_threads()

    def median() -> dict[str, float]:
        return {"median": statistics.median(itertools.islice(shares(given, name), 5))}

    before = median()
    monkeypatch.setitem(RIVALS, name, slowed(RIVALS[name]))
    after = median()
    assert not allowed().fails(before, before) and not allowed().fails(before, after)
    assert allowed().fails(after, before)
    assert torch.get_num_threads() == threads


def test_the_clock_stands_still_until_it_is_advanced() -> None:
    clock = Clock()
    began = clock.read()
    clock.advance(0.7)
    assert clock.read() - began == clock.read() - began == 0.7


def test_the_baseline_says_what_it_is_of() -> None:
    baseline = read_json(BASELINE)
    assert baseline["commit_info"]["id"] and baseline["versions"]["torch"] and baseline["device"]["cpu"]
    assert baseline["machine_info"] == {}
    medians = {row["params"]["name"]: row["stats"]["median"] for row in baseline["benchmarks"]}
    assert set(medians) == set(NAMES) and all(0 < share < 5 for share in medians.values())
