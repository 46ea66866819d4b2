"""The time model: it reproduces what was measured, and answers to memory, steps and cards as it must."""

import json

import pytest
from typer.testing import CliRunner

from diffexplain_fast.cli.main import app
from diffexplain_fast.prediction.launches import Launch
from diffexplain_fast.prediction.rates import GPUS, microseconds, milliseconds

pytest.importorskip("triton", reason="triton is not installed; its launchers say how often they launch")


def test_a_launch_takes_the_longest_of_its_bytes_its_flop_and_the_floor() -> None:
    gpu = GPUS["h200"]
    assert microseconds(Launch("pointwise", "add", 0.0, 8), gpu) == gpu.floor
    assert microseconds(Launch("pointwise", "add", 0.0, 2**30), gpu) > 2**30 / gpu.bandwidth / 1e6
    fast, slow = (microseconds(Launch("convolution", "c", 1e12, 8, side, 2), gpu) for side in (16, 8))
    assert slow / fast == pytest.approx(424 / 149)


def test_every_card_is_no_faster_than_an_h200() -> None:
    work = [Launch("product", "mm", 1e10, 2**24), Launch("norm", "n", 0.0, 2**26), Launch("copy", "c", 0.0, 64)]
    times = {name: sum(milliseconds(work, gpu).values()) for name, gpu in GPUS.items()}
    assert min(times.values()) == times["h200"]


@pytest.mark.slow
def test_the_model_reproduces_the_measured_stack_and_prices_memory() -> None:
    def record(*options: str) -> dict:
        done = CliRunner().invoke(app, ["bench", "model", "--json", *options])
        assert done.exit_code == 0, done.output
        return json.loads(next(line for line in done.output.splitlines() if line.startswith("{")))

    free, tight = record(), record("--memory", "5GiB", "--no-check")
    stack = free["compiled_stack"]
    assert stack["predicted_ms"] == pytest.approx(stack["measured_ms"], rel=0.05)
    assert free["ms"] == pytest.approx(sum(free["families"].values())) and free["ms"] < tight["ms"]
    assert tight["gib"] <= 5 < free["gib"]
    assert free["launches_forward"] == tight["launches_forward"] and free["launches"] < tight["launches"]
    assert record("--gpu", "rtx4090", "--no-check")["ms"] > free["ms"]


def test_an_unknown_card_is_answered_with_the_known_ones() -> None:
    done = CliRunner().invoke(app, ["bench", "model", "--gpu", "h300"])
    assert done.exit_code == 2 and "h200" in done.output
