"""The comparison of one iteration refuses wrong gradients, notices a slow fast path, and appends what it measured."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import iteration
from benchmarks.rivals import RIVALS, Images, Setting, ours, plain
from tests.benchmarks.tiny_workload import tiny_workload


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer a tiny workload, and bounds that ours reaches on it unless it sleeps."""
    monkeypatch.setitem(iteration.WORKLOADS, "tiny", tiny_workload)
    monkeypatch.setattr(iteration, "BOUNDS", dict.fromkeys(iteration.BOUNDS, 0.3))


def run(results: Path, *rivals: str) -> tuple[dict[str, dict[str, Any]], Any]:
    """Return the rows of one comparison on the CPU by rival, and what it exits with."""
    arguments = ["--workload", "tiny", "--device", "cpu", "--rounds", "2", "--threads", str(torch.get_num_threads())]
    with pytest.raises(SystemExit) as stopped:
        iteration.main([*arguments, "--rivals", *rivals], results)
    lines = (results / "iteration-cpu.jsonl").read_text().splitlines()
    return {row["rival"]: row for row in map(json.loads, lines)}, stopped.value.code


def scaled(images: Tensor) -> Tensor:
    """The same images, a tenth more gradient."""
    return 1.1 * images - 0.1 * images.detach()


def not_a_number(images: Tensor) -> Tensor:
    """The same images, no finite gradient."""
    return images + 0 * (images - images.detach()).abs().sqrt()


@pytest.mark.parametrize("broken", [scaled, Tensor.detach, not_a_number], ids=["scaled", "detached", "nan"])
def test_a_wrong_gradient_gets_no_figures(
    broken: Callable[[Tensor], Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rival(setting: Setting) -> Images:
        images = plain(setting)
        return lambda embeds, latents: broken(images(embeds, latents))

    monkeypatch.setitem(RIVALS, "broken", rival)
    rows, code = run(tmp_path, "broken")
    assert rows["broken"]["refused"] and not {"median_s", "times_ours", "peak_bytes"} & set(rows["broken"])
    assert code == "refused: broken"
    assert all(rows[name]["times_ours"] > 0 for name in (iteration.OURS, *iteration.BASELINES))


def test_a_rival_that_stops_is_refused_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rival(setting: Setting) -> Images:
        if setting.steps == 3:  # the gradients were compared on fewer
            raise torch.OutOfMemoryError("no memory\nfor you")
        return plain(setting)

    monkeypatch.setitem(RIVALS, "large", rival)
    rows, code = run(tmp_path, "large")
    assert rows["large"]["refused"] == "OutOfMemoryError: no memory" and code == "refused: large"


def test_a_slowed_fast_path_misses_its_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowed(setting: Setting) -> Images:
        images = ours(setting)
        # Many times what an iteration takes, also on a machine that is busy.
        return lambda embeds, latents: time.sleep(0.6) or images(embeds, latents)  # type: ignore[func-returns-value]

    monkeypatch.setitem(RIVALS, iteration.OURS, slowed)
    rows, code = run(tmp_path)
    assert rows[iteration.OURS]["times_ours"] == 1 and code == f"missed: {', '.join(iteration.BOUNDS)}"


def test_ours_is_refused_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RIVALS, iteration.OURS, lambda setting: lambda *inputs: scaled(ours(setting)(*inputs)))
    rows, code = run(tmp_path)
    assert code == f"refused: {iteration.OURS}; missed: {', '.join(iteration.BOUNDS)}"
    assert rows["plain autograd"]["median_s"] > 0 and rows["plain autograd"]["times_ours"] is None


def test_rows_are_appended_and_say_what_they_are_of(tmp_path: Path) -> None:
    before = '{"rival": "of an earlier run"}\n'
    (tmp_path / "iteration-cpu.jsonl").write_text(before)
    rows, code = run(tmp_path, "per-step checkpointing")
    assert not code and list(rows) == [
        "of an earlier run",
        "per-step checkpointing",
        iteration.OURS,
        *iteration.BASELINES,
    ]
    text = (tmp_path / "iteration-cpu.jsonl").read_text()
    assert text.startswith(before)
    for row in list(rows.values())[1:]:
        assert row["commit"] and row["versions"]["torch"] == torch.__version__
        assert row["device"]["threads"] == torch.get_num_threads() and row["gradient_distance"] < 1e-3
        assert row["command"].startswith("python -m benchmarks.iteration --workload tiny --device cpu --rounds 2 ")
        assert row["command"].endswith("--rivals 'per-step checkpointing'")
    run(tmp_path)
    assert (tmp_path / "iteration-cpu.jsonl").read_text().startswith(text)
