"""Ours is no slower beside plain autograd than when the baseline was measured; a slowed one is noticed.

Shares of plain autograd's time drift less from machine to machine than times. ``make baseline`` writes the rows that
``make test`` holds later changes to.
"""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffexplain_fast.measuring.bench.compare import measure
from diffexplain_fast.measuring.bench.rivals import OURS, PLAIN, RIVALS
from diffexplain_fast.measuring.bench.rows import Row, read_rows
from diffexplain_fast.measuring.bench.workloads import Images, Setting, Workload, tinyworld
from tests.measuring.bench.tiny_workload import tiny_workload

BASELINE = Path(__file__).parents[2] / "benchmarks" / "results" / "ratios.jsonl"
LEAN = "ours, one sample per step"
MOST = 1.28
"""How many times the baseline's share ours may take."""
CPU = torch.device("cpu")


def shares(rows: Iterable[tuple[str, Row]]) -> dict[str, float]:
    """Return the time of ours over plain autograd's, everything kept and one sample per step."""
    ratios = {name: row["times_ours"] for name, row in rows}
    return {name: ratios[name] / ratios[PLAIN] for name in (OURS, LEAN)}


def slower(found: dict[str, float], baseline: dict[str, float]) -> list[str]:
    """Return which of ours take more of plain autograd's time than is allowed."""
    return [name for name, share in found.items() if share > MOST * baseline[name]]


def measured(workload: Workload, rounds: int) -> dict[str, float]:
    """Return the shares of a workload on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return shares(measure(workload, {name: RIVALS[name] for name in (OURS, PLAIN, LEAN)}, rounds, CPU))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.skipif("PYTEST_XDIST_WORKER" in os.environ, reason="make test runs it by itself")
def test_ours_takes_no_larger_share_than_the_baseline() -> None:
    found = measured(tinyworld(CPU, torch.float32).with_options(steps=2), 9)
    assert not slower(found, shares((row["rival"], row) for row in read_rows(BASELINE))), found


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


@pytest.mark.parametrize("name", [OURS, LEAN])
def test_a_slowed_fast_path_fails_the_comparison(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tiny_workload(CPU, torch.float32)
    before = measured(given, 3)
    monkeypatch.setitem(RIVALS, name, slowed(RIVALS[name]))
    after = measured(given, 3)
    assert name in slower(after, before) and not slower(before, before)


def test_the_baseline_says_what_it_is_of() -> None:
    rows = read_rows(BASELINE)
    assert all(row["commit"] and row["versions"]["torch"] and row["device"]["threads"] == 1 for row in rows)
    assert all(0 < share < 5 for share in shares((row["rival"], row) for row in rows).values())
