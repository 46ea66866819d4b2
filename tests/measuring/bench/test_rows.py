"""Each row is written as soon as it is known, says what ran, and survives whatever stops the others."""

import math
import os
import random
import re
import signal
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.measuring.bench import compare as iteration
from diffexplain_fast.measuring.bench import rows as results
from diffexplain_fast.measuring.bench.rivals import BASELINES, OURS, RIVALS, ours, plain
from diffexplain_fast.measuring.bench.workloads import Images, Sampled, Setting
from tests.measuring.bench.command import bench, offer_tiny, run, scaled


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer the tiny workload."""
    offer_tiny(monkeypatch)


@pytest.mark.parametrize("complete", [1, 2])
def test_interrupted_it_keeps_complete_rounds_if_they_are_enough(
    complete: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = iteration.gradient

    def interrupted(workload: Any, images: Images, number: int) -> Tensor:
        if number == complete + 1 and not isinstance(images, Sampled):
            raise KeyboardInterrupt
        return gradients(workload, images, number)

    monkeypatch.setattr(iteration, "gradient", interrupted)
    rows, code, said = bench(tmp_path / "rows.jsonl", "--rounds", "5", "--rival", "hand-written loop")
    assert code == 130 and said.splitlines()[-1] == "diffexplain-fast: interrupted"
    # Ours came first and was complete.
    wanted = {OURS: 5} if complete < 2 else {OURS: 5, "hand-written loop": complete}
    assert {row["rival"]: row["rounds"] for row in rows} == wanted


@pytest.mark.slow
def test_what_runs_out_of_memory_and_what_is_wrong_cost_their_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = iteration.gradient
    names = ("large", "broken", "hand-written loop")

    def large(setting: Setting) -> Images:
        return Hungry(plain(setting))

    def full(workload: Any, images: Images, number: int) -> Tensor:
        if isinstance(images, Hungry) and number == 2:
            raise torch.OutOfMemoryError("no memory in this round")
        return gradients(workload, images, number)

    monkeypatch.setitem(RIVALS, "large", large)
    monkeypatch.setitem(RIVALS, "broken", lambda setting: lambda *inputs: scaled(plain(setting)(*inputs)))
    monkeypatch.setattr(iteration, "gradient", full)
    rows, code, said = run(tmp_path, *names)
    assert rows["large"]["refused"] == "OutOfMemoryError: no memory in this round"
    assert "its gradient is" in rows["broken"]["refused"]
    assert (code, said) == (1, "refused: broken, large")
    kept = [name for name, row in rows.items() if row.get("rounds") == 2 and row["interleaved"]]
    assert kept == [OURS, "hand-written loop", *BASELINES]


class Hungry:
    """The same images by an object that a test knows again."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __call__(self, embeds: Tensor, latents: Tensor) -> Tensor:
        return self.images(embeds, latents)


def test_ours_makes_room_for_what_does_not_fit_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Sampled]] = []
    measured = []

    def watched(setting: Setting) -> Images:
        made = ours(setting)
        alive.append(weakref.ref(made.sampler))  # type: ignore[arg-type]
        return made

    def large(setting: Setting) -> Images:
        if setting.steps == 3:
            measured.append(held := sum(each() is not None for each in alive))
            if held:
                raise torch.OutOfMemoryError("no memory beside ours")
        return plain(setting)

    monkeypatch.setitem(RIVALS, OURS, watched)
    monkeypatch.setitem(RIVALS, "large", large)
    rows, code, _ = run(tmp_path, "large")
    assert measured == [1, 0] and not rows["large"]["interleaved"] and rows["large"]["times_ours"] > 0
    assert not code and all(rows[name]["interleaved"] for name in (OURS, *BASELINES))


@pytest.mark.slow
def test_each_row_is_on_disk_before_the_next_rival_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def last(setting: Setting) -> Images:
        if setting.steps == 3:
            seen.extend(row["rival"] for row in results.read_rows(tmp_path / "rows.jsonl"))
        return plain(setting)

    monkeypatch.setitem(RIVALS, "last", last)
    run(tmp_path, "hand-written loop", "last")
    assert seen == [OURS, "hand-written loop"]


def test_after_the_deadline_nothing_more_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = iteration.driver_state

    def slow(device: torch.device) -> Any:
        clock.append(3600.0)
        return late(device)

    clock = [0.0]
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + clock[-1])
    monkeypatch.setattr(iteration, "driver_state", slow)
    rows, code, said = bench(tmp_path / "rows.jsonl", "--seconds", "600", "--rival", "hand-written loop")
    assert [row["rival"] for row in rows] == [OURS] and code == 0
    assert said.splitlines()[-1] == f"not reached in 600 s: hand-written loop, {', '.join(BASELINES)}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_what_there_is_also_where_the_shell_ignores_them(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(setting: Setting) -> Images:
        if setting.steps == 3:
            signal.raise_signal(number)
        return plain(setting)

    before = signal.signal(number, signal.SIG_IGN)
    try:
        monkeypatch.setitem(RIVALS, "stopped", stopped)
        rows, code, said = bench(tmp_path / "rows.jsonl", "--rival", "stopped")
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert [row["rival"] for row in rows] == [OURS] and code == 130
    assert said.splitlines()[-1] == "diffexplain-fast: interrupted"


@pytest.mark.slow
@pytest.mark.skipif(
    "PYTEST_XDIST_WORKER" in os.environ, reason="a signal may end xdist's worker; run this file by itself"
)
@pytest.mark.parametrize("moment", range(20))
def test_twenty_moments_of_a_signal_leave_complete_rows(moment: int, tmp_path: Path) -> None:
    number, names = (signal.SIGINT, signal.SIGTERM)[moment % 2], ("hand-written loop", "per-step checkpointing")
    timer = threading.Timer(random.Random(moment).uniform(0.01, 3.0), signal.raise_signal, [number])
    before = signal.signal(number, signal.SIG_IGN)
    try:
        timer.start()
        rows, code, said = bench(tmp_path / "rows.jsonl", *(word for name in names for word in ("--rival", name)))
        timer.cancel()
        timer.join()
    finally:
        signal.signal(number, before)
    shown = [line for line in said.splitlines() if " ms " in line]
    assert code in (0, 130) and len(rows) >= len(shown) and (code or len(rows) == 5)
    assert all(row["median_s"] > 0 and row["rounds"] >= 2 for row in rows)


def test_rows_keep_what_the_sampler_says_that_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = DifferentiableSampler.record
    monkeypatch.setattr(
        DifferentiableSampler, "record", lambda self: said(self) | {"replay_distance": math.nan, "new": 1}
    )
    rows, _, _ = run(tmp_path, "hand-written loop")
    record = rows[OURS]["record"]
    assert record["cuda_graphs"].startswith("eager: graphs need tensors on a CUDA device")
    assert (record["replay_distance"], record["new"]) == ("nan", 1) and "record" not in rows["hand-written loop"]


@pytest.mark.slow
def test_the_plan_of_memory_comes_first(tmp_path: Path) -> None:
    _, _, said = bench(tmp_path / "rows.jsonl", "--rival", "hand-written loop in one CUDA graph", "--budget", "1GiB")
    plan, *lines = said[said.index("memory plan") :].splitlines()
    peak = re.search(r"needs (\d+) MiB", plan)
    assert peak and int(peak[1]) > 0
    assert f"  hand-written loop in one CUDA graph: a recording, at most {peak[1]} MiB" in lines
    assert "  ours, 1GiB: a recording, at most 1024 MiB with the weights" in lines
