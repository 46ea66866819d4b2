"""Work stands where its FLOP, bytes and seconds put it."""

from dataclasses import replace

import pytest
import torch

from diffexplain_fast.measuring.profile.counting import Operation
from diffexplain_fast.measuring.profile.events import Call
from diffexplain_fast.measuring.profile.profile import Profile, summarise
from diffexplain_fast.measuring.profile.roofline import (
    SIDES,
    Ceilings,
    Roofline,
    Work,
    attainable,
    make_roofline,
    measure_ceilings,
    product_rate,
)
from diffexplain_fast.report.profile_page import profile_text
from tests.measuring.profile.test_profile import ABOUT, MEMORY, host

CEILINGS = Ceilings("float16", flop_rate=100.0, byte_rate=10.0)
OPERATIONS = [
    Operation("aten::mm", 80, 4),
    Operation("aten::mm", 20, 16),
    Operation("aten::mv", None, 1000),  # no formula, so the family's FLOP do not stand beside its bytes
    Operation("aten::exp", None, 8),
    Operation("aten::clone", None, 6),
    Operation("aten::view", None, 500),
    Operation("aten::conv2d", 7, 7),
]
CALLS = [
    Call("aten::mm", 0.0, 1.0, 0.5, True, (("sgemm", 0.25),)),
    Call("aten::copy_", 0.25, 0.5, 0.25, False, (("copy_kernel", 0.25),)),
    Call("aten::mm", 1.0, 2.0, 1.0, True, (("sgemm", 0.75),)),
    Call("aten::mv", 2.0, 9.0, 1.0, True),
    Call("aten::exp", 10.0, 12.0, 2.0, True),
    Call("aten::clone", 12.0, 13.0, 2.0, True),
    Call("aten::view", 13.0, 14.0, 2.0),
    Call("aten::layer_norm", 14.0, 15.0, 1.0, True),
]
FOUND = [CALLS[0], CALLS[2], CALLS[3], CALLS[4], CALLS[5], CALLS[6], None]


def example(on_gpu: bool = False) -> Roofline:
    return make_roofline(OPERATIONS, FOUND, CALLS, on_gpu, CEILINGS, 2)


def test_the_work_of_a_family_is_the_sum_of_the_operations_that_were_found() -> None:
    found = {work.name: work for work in example().families}
    assert found["matmul"] == Work("matmul", "matmul", 2, 3, 2.0, 100, 20, 5.0, 50.0 / 50.0)
    assert found["elementwise"] == Work("elementwise", "elementwise", 1, 1, 2.0, None, 8, None, 4.0 / 10.0)
    assert found["layout and copy"].moved == 6 and found["layout and copy"].share == pytest.approx(0.6)
    assert "host" not in found
    assert found["convolution"].share is None and found["convolution"].of == 1  # was not found in the profile
    assert found["norm"].share is None and found["norm"].of == 0  # was not counted at all
    assert [work.name for work in example().operators] == ["aten::mv", "aten::mm"]


def test_on_a_gpu_kernels_take_the_time() -> None:
    matmul = example(on_gpu=True).families[0]
    assert matmul.name == "matmul" and matmul.seconds == pytest.approx(1.25)  # with the copy inside


def test_attainable_is_the_lower_of_both_ceilings() -> None:
    assert attainable(CEILINGS, 2.0) == 20.0 and attainable(CEILINGS, 1e6) == 100.0


def shown() -> Profile:
    return replace(summarise(host([], []), [], False, MEMORY, ABOUT), roofline=example())


def test_the_table_says_what_was_not_counted() -> None:
    lines = profile_text(shown()).splitlines()
    assert any(line.split() == ["norm", "not", "counted"] for line in lines)
    (matmul,) = [line for line in lines if line.startswith("matmul")]
    assert matmul.split()[1:] == ["2000.0", "0.000", "5.0", "0.0", "0.0", "100.0%", "2", "of", "3", "calls"]


def test_ceilings_are_measured() -> None:
    state = torch.random.get_rng_state()
    found = measure_ceilings(torch.device("cpu"), torch.float32)
    assert found.dtype == "float32" and 1e8 < found.flop_rate < 1e15 and 1e8 < found.byte_rate < 1e13
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_small_product_takes_no_longer_than_its_rate_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIDES, "cpu", 128)
    assert 1e6 < product_rate(torch.device("cpu"), torch.float32) < 1e15
