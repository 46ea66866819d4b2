"""The comparison of one iteration refuses wrong gradients, notices a slow fast path, and appends what it measured."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import PNDMScheduler
from torch import Tensor

from diffexplain_fast.measuring.bench import gate
from diffexplain_fast.measuring.bench import rows as results
from diffexplain_fast.measuring.bench.rivals import BASELINES, ON_REQUEST, OURS, RIVALS, ours, plain
from diffexplain_fast.measuring.bench.workloads import Images, Setting
from tests.measuring.bench.command import bench, offer_tiny, run, scaled
from tests.tiny import tiny_sd


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer the tiny workload."""
    offer_tiny(monkeypatch)


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
    rows, code, said = run(tmp_path, "broken")
    assert rows["broken"]["refused"] and not {"median_s", "times_ours", "peak_bytes"} & set(rows["broken"])
    assert code == 1 and said == "refused: broken"
    assert all(rows[name]["times_ours"] > 0 for name in (OURS, *BASELINES))


def test_a_rival_that_stops_is_refused_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rival(setting: Setting) -> Images:
        if setting.steps == 3:  # the gradients were compared on fewer
            raise torch.OutOfMemoryError("no memory\nfor you")
        return plain(setting)

    monkeypatch.setitem(RIVALS, "large", rival)
    rows, code, said = run(tmp_path, "large")
    assert rows["large"]["refused"] == "OutOfMemoryError: no memory" and (code, said) == (1, "refused: large")


def test_rivals_that_cannot_run_here_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xformers", None)  # as where it is not installed
    graph, attention = "hand-written loop in one CUDA graph", "per-step checkpointing, xformers"
    assert {graph, attention} <= set(ON_REQUEST)
    rows, code, said = run(tmp_path, graph, attention)
    assert "needs a CUDA device, and the models are on the cpu" in rows[graph]["refused"]
    assert "xformers is not installed: pip install" in rows[attention]["refused"]
    assert code == 1 and said == f"refused: {graph}, {attention}"


def test_a_card_too_small_for_plain_autograd_still_compares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(setting: Setting) -> Images:
        raise torch.OutOfMemoryError("no memory for you")

    monkeypatch.setattr(gate, "plain", too_large)
    monkeypatch.setitem(RIVALS, "plain autograd", too_large)
    monkeypatch.setitem(RIVALS, "broken", lambda setting: lambda *inputs: scaled(ours(setting)(*inputs)))
    rows, code, _ = run(tmp_path, "per-step checkpointing", "broken")
    assert code == 1 and rows["plain autograd"]["refused"] == "OutOfMemoryError: no memory for you"
    assert rows["per-step checkpointing"]["times_ours"] > 0 and "its gradient is" in rows["broken"]["refused"]


@pytest.mark.slow
def test_a_slowed_fast_path_misses_its_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowed(setting: Setting) -> Images:
        images = ours(setting)
        # Many times what an iteration takes, also on a machine that is busy.
        return lambda embeds, latents: time.sleep(1.5) or images(embeds, latents)  # type: ignore[func-returns-value]

    monkeypatch.setitem(RIVALS, OURS, slowed)
    rows, code, said = run(tmp_path)
    assert rows[OURS]["times_ours"] == 1 and (code, said) == (1, f"missed: {', '.join(BASELINES)}")


def test_ours_is_refused_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RIVALS, OURS, lambda setting: lambda *inputs: scaled(ours(setting)(*inputs)))
    rows, code, said = run(tmp_path)
    assert (code, said) == (1, f"refused: {OURS}; missed: {', '.join(BASELINES)}")
    assert rows["plain autograd"]["median_s"] > 0 and rows["plain autograd"]["times_ours"] is None


def test_rows_are_appended_and_say_what_they_are_of(tmp_path: Path) -> None:
    path, before = tmp_path / "new" / "rows.jsonl", '{"rival": "of an earlier run"}\n'
    path.parent.mkdir()
    path.write_text(before)
    rows, code, _ = bench(path, "--rival", "per-step checkpointing")
    assert not code
    assert [row["rival"] for row in rows[1:]] == [OURS, "per-step checkpointing", *BASELINES]
    assert path.read_text().startswith(before)
    for row in rows[1:]:
        assert row["commit"] == results.commit() and row["versions"]["torch"] == torch.__version__
        assert row["device"]["threads"] == torch.get_num_threads() and row["gradient_distance"] < 1e-3
        assert row["command"].startswith("diffexplain-fast") and row["run"] == rows[1]["run"]
        assert (row["workload"], row["steps"], row["guidance_scale"], row["batch"]) == ("tiny", 3, 3, 1)
        assert row["flop"] > 1e6 and row["ceiling_flop_s"] > 1e6 and 0 < row["share_of_ceiling"] < 1
        assert row["peak_bytes"] > 0 and row["first_s"] > 0 and row["low_s"] <= row["median_s"] <= row["high_s"]
        assert row["gpu"] is row["joules"] is row["reserved_bytes"] is row["left_bytes"] is None
    text = path.read_text()
    again, _, _ = bench(path, "--rival", "per-step checkpointing")
    assert path.read_text().startswith(text) and again[-1]["run"] != rows[-1]["run"]


def test_options_change_the_workload_and_its_name(tmp_path: Path) -> None:
    options = ("--steps", "2", "--guidance", "1", "--batch", "4", "--rival", "plain autograd")
    rows, code, _ = bench(tmp_path / "rows.jsonl", *options)
    assert not code
    for row in rows:
        assert row["workload"] == "tiny, steps 2, guidance 1, batch 4"
        assert (row["steps"], row["guidance_scale"], row["batch"]) == (2, 1, 4)


@pytest.mark.slow
def test_budgets_are_measured_and_kept(tmp_path: Path) -> None:
    budgets = ("--budget", "50%", "--budget", "1GiB", "--budget", "1KiB")
    rows, code, text = bench(tmp_path / "rows.jsonl", "--rival", "plain autograd", *budgets)
    found = {row["rival"]: row for row in rows}
    assert found["ours, 50%"]["median_s"] > 0 and found["ours, 1GiB"]["gradient_distance"] < 1e-3
    plans = {name: row["plan"] for name, row in found.items() if row.get("plan")}
    assert set(plans) == {OURS, "ours, 50%", "ours, 1GiB"} and plans["ours, 1GiB"]["limit"] == 2**30
    assert plans["ours, 50%"]["peak"] <= plans["ours, 50%"]["limit"] < plans[OURS]["peak"]
    assert "memory: wanted at least" in found["ours, 1KiB"]["refused"]
    assert code == 1 and text.splitlines()[-1] == "refused: ours, 1KiB"


def test_a_pipeline_of_ones_own(tmp_path: Path) -> None:
    tiny_sd().save_pretrained(tmp_path / "mine")
    source = ("--pipeline", str(tmp_path / "mine"), "--steps", "2")
    rows, code, text = bench(tmp_path / "rows.jsonl", "--rival", "per-step checkpointing", workload=source)
    assert code == 0, text
    assert {row["workload"] for row in rows} == {"mine, steps 2"} and all(row["batch"] == 1 for row in rows)
    assert all(row["gradient_distance"] < 1e-3 and row["guidance_scale"] == 7.5 for row in rows)


def test_a_scheduler_in_place_of_its_own(tmp_path: Path) -> None:
    pipe = tiny_sd()
    pipe.scheduler = PNDMScheduler.from_config(pipe.scheduler.config)
    pipe.save_pretrained(tmp_path / "mine")
    source = ("--pipeline", str(tmp_path / "mine"), "--scheduler", "euler", "--steps", "2")
    rows, code, text = bench(tmp_path / "rows.jsonl", "--rival", "per-step checkpointing", workload=source)
    assert code == 0, text
    assert {row["workload"] for row in rows} == {"mine, scheduler euler, steps 2"}


BAD = {
    "scheduler": (["--scheduler", "ddim"], "--scheduler: wanted --pipeline beside it"),
    "workload": (["--workload", "tinny"], "workload: wanted one of"),
    "rival": (["--rival", "plane autograd"], "nearest: plain autograd"),
    "dtype": (["--dtype", "float64"], "dtype: wanted one of 3 known names"),
    "budget": (["--budget", "8 apples"], "memory: wanted"),
    "share": (["--budget", "101%"], "budget: wanted at most 100%"),
    "batch": (["--batch", "0"], "batch: wanted at least 1 image"),
    "steps": (["--steps", "0"], "steps: wanted at least 1 step"),
    "guidance": (["--guidance", "nan"], "guidance: wanted at least 1"),
    "endless guidance": (["--guidance", "inf"], "guidance: wanted at least 1, which is none, and finite"),
    "threads": (["--threads", "999999999"], "--threads"),
    "device": (["--device", "gpu"], "--device: wanted 'cpu'"),
    "rounds": (["--rounds", "1"], "rounds: wanted at least 2"),
    "pipeline": (["--pipeline", "{folder}"], "{folder}"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    template, said = BAD[name]
    arguments = [word.format(folder=tmp_path) for word in template]
    rows, code, text = bench(tmp_path / "rows.jsonl", *arguments)
    assert code == 2 and said.format(folder=tmp_path) in text and not rows and "Traceback" not in text


@pytest.mark.skipif(not (Path(__file__).parents[3] / ".git").exists(), reason="a copy of the tree, without git")
def test_a_commit_is_only_named_in_our_own_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "a"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    assert results.commit()
    installed = tmp_path / "site-packages" / "results.py"
    installed.parent.mkdir()
    installed.write_text("")
    monkeypatch.setattr(results, "__file__", str(installed))
    assert results.commit() is None
    monkeypatch.setenv("PATH", "")
    assert results.commit() is None
