"""The table of the ops on a GPU, made on the CPU at small shapes: every case runs, a wrong gradient gets no figure."""

from typing import Any

import pytest
import torch

from benchmarks import gpu_ops, op_cases
from benchmarks.op_cases import SHAPES
from diffexplain_fast.measuring.profile.roofline import Ceilings

CEILINGS = Ceilings("float32", 1e12, 1e11)
SMALL = SHAPES["small"]
BARS = ("wait_for_memory", "faster_than_libraries")
NEW = op_cases.New(torch.device("cpu"), torch.float32)


def rows(op: str, **options: Any) -> list[dict[str, Any]]:
    case, *_ = op_cases.cases(NEW, {op: SMALL[op]})
    if case.impls != ("torch",):
        case = case._replace(impls=("reference",))
    return list(gpu_ops.measure(case, CEILINGS, ring=10_000, **options))


def test_every_op_has_a_case() -> None:
    assert list(SMALL) == list(SHAPES["gpu"])


@pytest.mark.parametrize("op", SMALL)
def test_a_row_has_times_and_shares(op: str) -> None:
    found = {row["impl"]: row for row in rows(op)}
    ours = found[next(name for name in found if name.startswith("ours"))]
    for row in (found["eager"], ours):
        assert "refused" not in row and row["distance"] <= 1e-4, row
        assert row["forward_us"] > 0 and len(row["share"]) == len(row["tb_s"]) == len(row["tflop_s"]) == 2


@pytest.mark.parametrize("op", ["geglu"])
def test_the_compiled_row_is_one_of_its_own(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    assert [row["impl"] for row in rows(op, compiled=True)] == ["compiled"]


def test_another_gradient_gets_no_figure() -> None:
    (case,) = op_cases.cases(NEW, {"geglu": SMALL["geglu"]})
    wrong = case._replace(impls=("torch",), ours=lambda h: 2 * case.eager(h))
    eager, ours = gpu_ops.measure(wrong, CEILINGS, ring=1)
    assert "forward_us" in eager and ours["refused"].startswith("another result") and "forward_us" not in ours


def test_what_does_not_run_is_a_row_with_its_reason() -> None:
    (case,) = op_cases.cases(NEW, {"geglu": SMALL["geglu"]})
    eager, ours = gpu_ops.measure(case._replace(impls=("nothing",)), CEILINGS, ring=1)
    assert "forward_us" in eager and "'nothing'" in ours["refused"]


@pytest.mark.slow
def test_what_a_sanitizer_sees_is_every_op(capsys: pytest.CaptureFixture[str]) -> None:
    gpu_ops.run_once(NEW)
    said = capsys.readouterr().out
    assert all(f"{op} " in said for op in SMALL) and "ours, torch" in said


def row(op: str, shape: str, impl: str, both: float, share: float) -> dict[str, Any]:
    times = {"forward_us": both / 3, "backward_us": 2 * both / 3}
    return {"op": op, "shape": shape, "impl": impl, "share": [share, share + 0.1], **times}


def test_the_bars_are_those_of_the_worse_way_and_of_the_fastest_library() -> None:
    attention = [row("attention", "4096x77x40", impl, both, 0.1) for impl, both in (("eager", 80.0), ("flash", 60.0))]
    refused = {"op": "attention", "shape": "4096x77x40", "impl": "cudnn", "refused": "not here"}
    for share, both, met in ((0.8, 50.0, True), (0.7, 70.0, False)):
        ours = [
            row("layer_norm", "8192x320", "ours, triton", 9.0, share),
            row("attention", "4096x77x40", "ours, triton", both, 0.1),
            row("attention", "4096x77x40", "ours, sdpa", 1.0, 0.1),  # torch's by our name: neither side's
        ]
        found = gpu_ops.bars([*attention, refused, *ours, row("layer_norm", "8192x320", "eager", 1.0, 0.9)])
        assert list(found.values()) == [met, met], found


def test_what_was_not_measured_has_no_verdict() -> None:
    assert gpu_ops.bars([{"op": "geglu", "shape": "8192x2560", "impl": "ours, triton", "refused": "no GPU"}]) == {}


def test_the_bars_name_shapes_that_are_measured() -> None:
    measured = {(op, shape) for op, shapes in SHAPES["gpu"].items() for shape in shapes}
    bars = {table: {(op, shape) for op, shapes in SHAPES[table].items() for shape in shapes} for table in BARS}
    assert all(asked and asked <= measured for asked in bars.values())
