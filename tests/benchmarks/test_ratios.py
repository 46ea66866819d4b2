"""Ours is no slower beside plain autograd than when the baseline was measured; a slowed one is noticed."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.ratios import BASELINE, NAMES, REFERENCE, ratios, small_workload, worse
from diffexplain_fast.benchmarking.rivals import RIVALS
from diffexplain_fast.benchmarking.setting import Images, Setting
from diffexplain_fast.storage import read_json
from tests.benchmarks.tiny_workload import tiny_workload


@pytest.mark.slow
def test_no_worse_than_the_baseline(benchmark: Any) -> None:
    # Where pytest-benchmark is disabled, as under xdist, this still runs once.
    found = benchmark.pedantic(ratios, args=(small_workload(),), rounds=1)
    benchmark.extra_info.update(found)
    problems = worse(found, read_json(BASELINE)["ratios"])
    assert not problems, "\n".join(problems)


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
def test_a_slowed_fast_path_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tiny_workload(torch.device("cpu"), torch.float32)
    before, threads = ratios(given, rounds=3), torch.get_num_threads()
    monkeypatch.setitem(RIVALS, name, slowed(RIVALS[name]))
    problems = worse(ratios(given, rounds=3), before)
    assert any(problem.startswith(f"{name}: ") and REFERENCE in problem for problem in problems)
    assert torch.get_num_threads() == threads


def test_the_baseline_says_what_it_is_of() -> None:
    baseline = read_json(BASELINE)
    assert baseline["commit"] and baseline["versions"]["torch"] and baseline["device"]["cpu"]
    assert set(baseline["ratios"]) == set(NAMES) and all(0 < ratio < 5 for ratio in baseline["ratios"].values())
