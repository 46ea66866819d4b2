"""The time model: it reproduces what was measured, and answers to memory, steps and cards as it must."""

import json
import sys

import pytest
from typer.testing import CliRunner

from diffexplain_fast.cli.main import app
from diffexplain_fast.engine.lean.levels import LEVELS
from diffexplain_fast.engine.memory.plan import Plan
from diffexplain_fast.prediction import predict
from diffexplain_fast.prediction.launches import Launch, by_family
from diffexplain_fast.prediction.parts import prepare
from diffexplain_fast.prediction.predict import Prediction, _step
from diffexplain_fast.prediction.rates import GPUS, by_kernel, microseconds, milliseconds

pytest.importorskip("triton", reason="triton is not installed; its launchers say how often they launch")


def test_a_launch_takes_the_longest_of_its_bytes_its_flop_and_the_floor() -> None:
    gpu = GPUS["h200"]
    assert microseconds(Launch("pointwise", "add", 0.0, 0), gpu) == gpu.floor
    assert microseconds(Launch("pointwise", "add", 0.0, 2**30), gpu) > 2**30 / gpu.bandwidth / 1e6
    fast, slow = (microseconds(Launch("convolution", "c", 1e12, 8, side, 2), gpu) for side in (16, 8))
    assert slow / fast == pytest.approx(424 / 149)


def test_attention_takes_what_was_measured() -> None:
    def took(name: str, products: int, keys: int) -> float:
        flop = float(products * 2 * 8 * 4096 * 40 * keys)
        return microseconds(Launch("attention", name, flop, 8, 40, 4096, keys), GPUS["h200"])

    # benchmarks.gpu_ops on an H200, at 2 images and 8 heads: microseconds of 4096 queries and of so many keys.
    assert took("_scaled_dot_product_cudnn_attention", 4, 4096) == pytest.approx(153, rel=0.03)
    assert took("_scaled_dot_product_cudnn_attention_backward", 10, 4096) == pytest.approx(408, rel=0.03)
    assert took("attention_fwd_kernel", 4, 4096) == pytest.approx(202, rel=0.03)
    assert took("attention_fwd_kernel", 4, 77) == pytest.approx(14.5, rel=0.03)
    assert took("_scaled_dot_product_cudnn_attention_backward", 10, 77) == pytest.approx(121, rel=0.03)


def test_a_kernel_that_moves_bytes_takes_its_start_and_its_bytes() -> None:
    gpu = GPUS["h200"]
    small, large = (microseconds(Launch("norm", "layer_norm_fwd_kernel", 0.0, size), gpu) for size in (2**20, 2**24))
    assert gpu.floor < small < gpu.floor + 1 and large == pytest.approx(gpu.floor + 2**24 / 3.9e6 / 0.92, rel=0.01)
    assert microseconds(Launch("norm", "group_norm_silu_bwd_partial_kernel", 0.0, 2**24), gpu) > large


def test_every_card_is_no_faster_than_an_h200() -> None:
    work = [Launch("product", "mm", 1e10, 2**24), Launch("norm", "n", 0.0, 2**26), Launch("copy", "c", 0.0, 64)]
    times = {name: sum(milliseconds(work, gpu).values()) for name, gpu in GPUS.items()}
    assert min(times.values()) == times["h200"]


def test_the_first_step_is_priced_with_its_unconditional_rows_by_themselves() -> None:
    """A prompt's gradient does not reach the first latents: half of the rows keep nothing and have no backward."""
    parts = prepare("sd15", steps=2, guided=True, batch=1)
    whole, first = (_step(parts, LEVELS["keep"], split) for split in (False, True))
    assert _flop(first.forward) == pytest.approx(_flop(whole.forward), rel=0.03)
    assert _flop(first.backward) == pytest.approx(_flop(whole.backward) / 2, rel=0.05)
    again = _step(parts, LEVELS["again"], True)
    assert _flop(again.backward) == pytest.approx(_flop(first.backward) + _flop(first.forward) / 2, rel=0.03)


def test_text_of_unconditional_rows_gets_no_gradient() -> None:
    """Two of five products of the short kernel are not computed for half of the rows, nor half of the partial sums."""
    parts = prepare("sd15", steps=2, guided=True, batch=1, cudnn=True)
    whole = prepare("sd15", steps=2, guided=True, batch=1, cudnn=True)
    whole = whole._replace(request=whole.request._replace(split_guidance=False))
    asked, full = (_step(one, LEVELS["keep"]).backward for one in (parts, whole))
    assert len(asked) == len(full)
    for name, share in (("attention_bwd_short_kernel", 0.8), ("attention_bwd_text_dq_kernel", 0.8)):
        found = [sum(each.flop for each in way if each.name == name) for way in (asked, full)]
        assert found[0] == pytest.approx(share * found[1], rel=0.01)
    sums = [sum(each.bytes for each in way if "combine" in each.name) for way in (asked, full)]
    assert sums[0] < 0.6 * sums[1]


def _flop(launches: list[Launch]) -> float:
    return sum(launch.flop for launch in launches)


def test_launches_by_kernel_are_all_launches() -> None:
    gpu = GPUS["h200"]
    forward = [Launch("product", "mm", 1e10, 2**24), Launch("norm", "n", 0.0, 64), Launch("product", "mm", 0.0, 64)]
    backward = [Launch("product", "mm", 1e10, 2**24), Launch("copy", "n", 0.0, 2**28)]
    kernels = by_kernel(forward, backward, gpu)
    found = {(kernel.family, kernel.name): (kernel.forward, kernel.backward) for kernel in kernels}
    assert found == {("product", "mm"): (2, 1), ("norm", "n"): (1, 0), ("copy", "n"): (0, 1)}
    assert [kernel.ms for kernel in kernels] == sorted((kernel.ms for kernel in kernels), reverse=True)
    whole = sum(milliseconds([*forward, *backward], gpu).values())
    assert sum(kernel.ms for kernel in kernels) == pytest.approx(whole)


def test_where_the_launches_of_a_guided_step_are() -> None:
    """Lower these when a launch is saved: products, convolutions and attention, norms, and all else."""
    parts = prepare("sd15", steps=2, guided=True, batch=1, cudnn=True)
    counts = [by_family(way) for way in _step(parts, LEVELS["keep"])]
    assert [[found[family] for family in ("convolution", "product", "attention")] for found in counts] == [
        [52, 154, 32],
        [52, 186, 44],
    ]
    assert [found["norm"] for found in counts] == [141, 158]
    assert [sum(found.get(family, 0) for family in ("geglu", "pointwise", "copy")) for found in counts] == [36, 28]


def test_a_step_that_is_computed_again_computes_no_statistics_again() -> None:
    """All except those of the last norm, which is not in a block."""
    parts = prepare("sd15", steps=2, guided=True, batch=1, cudnn=True)
    for name, once in (("keep", 32), ("again", 33), ("costly", 33)):
        ways = _step(parts, LEVELS[name])
        sums = [each for way in ways for each in way if each.name == "group_norm_silu_fwd_partial_kernel"]
        assert len(sums) == once


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
    # Lower these when a launch or time is saved; a convolution's bias, which torch adds apart from cuDNN, is counted.
    assert free["launches_forward"] <= 415 and free["launches_backward"] <= 468
    assert free["ms"] <= 305.2 and tight["ms"] <= 367.9
    for way in ("forward", "backward"):
        assert sum(kernel[way] for kernel in free["kernels"]) == free[f"launches_{way}"]
    assert record("--gpu", "rtx4090", "--no-check")["ms"] > free["ms"]


def test_numbers_of_images_are_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its levels, memory and time; one that does not fit says what is needed."""

    def found(model: str, gpu: str, *, batch: int, memory: int, **how: object) -> Prediction:
        if batch > 2:
            raise ValueError("memory: wanted at least 7 bytes")
        plan = Plan(("keep", "keep"), {}, batch * 2**30, memory, 0.0)
        return Prediction(plan, 100.0 + 50 * batch, 1, 1, 2, {"norm": 1.0}, [])

    monkeypatch.setattr("diffexplain_fast.prediction.predict.predict", found)
    options = ["bench", "model", "--no-check", "--memory", "4GiB", *(f"--batch={size}" for size in (1, 2, 4))]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    lines = [" ".join(line.split()) for line in done.output.splitlines()]
    at = lines.index("images GiB ms ms a picture levels")
    levels = "1 step at keep, the decoder at keep, 0 % computed again"
    assert lines[at + 1 : at + 4] == [
        f"1 1.00 150 150.0 {levels}",
        f"2 2.00 200 100.0 {levels}",
        "4 memory: wanted at least 7 bytes",
    ]
    told = json.loads(CliRunner().invoke(app, [*options, "--json"]).output)
    assert (told["ms"], told["gib"], told["plan"], told["launches"]) == (150.0, 1.0, levels, 2)
    rows = [{"batch": size, "gib": float(size), "ms": 100.0 + 50 * size, "plan": levels} for size in (1, 2)]
    rows = [row | {"ms_a_picture": row["ms"] / row["batch"]} for row in rows]
    assert told["batches"] == [*rows, {"batch": 4, "refused": "memory: wanted at least 7 bytes"}]
    done = CliRunner().invoke(app, ["bench", "model", "--no-check", "--memory", "4GiB", "--batch", "4"])
    assert done.exit_code == 2 and "memory: wanted at least 7 bytes" in done.output


def test_without_triton_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "prepare", lambda *sizes, **options: None)
    monkeypatch.setitem(sys.modules, "triton", None)
    done = CliRunner().invoke(app, ["bench", "model"])
    assert done.exit_code == 1 and "bench model: wanted the package triton (pip install 'triton'), got" in done.output
    told = " ".join(CliRunner().invoke(app, ["bench", "model", "--help"], env={"COLUMNS": "80"}).output.split())
    assert "needs the package triton, on Linux (pip install triton)" in told


def test_an_unknown_card_is_answered_with_the_known_ones() -> None:
    done = CliRunner().invoke(app, ["bench", "model", "--gpu", "h300"])
    assert done.exit_code == 2 and "h200" in done.output
