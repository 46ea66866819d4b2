"""The raw functions that are chosen once are those of the ops."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from diffexplain_fast.ops import _impl, attention
from diffexplain_fast.ops.raw import RawOps
from diffexplain_fast.ops.reference import geglu, group_norm_silu, layer_norm
from tests.ops.calls import evaluate
from tests.ops.test_attention import TestAttention as AttentionContract

CPU = torch.device("cpu")


def test_raw_reference_functions_are_those_of_the_reference() -> None:
    raw = RawOps(CPU, torch.float64, "reference")
    assert raw.shares_shift and raw.adds_in_products
    assert raw.group_norm_fwd is group_norm_silu.group_norm_silu_fwd
    assert raw.layer_norm_bwd is layer_norm.layer_norm_bwd and raw.geglu_fwd is geglu.geglu_fwd
    assert {choice.impl for choice in raw.choices.values()} == {"reference"}


def test_auto_chooses_the_implementations_of_the_ops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_impl, "CPP_MISSING", "")
    raw = RawOps(CPU, torch.float32)
    assert raw.geglu_fwd is torch.ops.diffexplain_fast.geglu_fwd
    assert raw.choices == {op: _impl.choose(op, "auto", CPU, torch.float32) for op in raw.choices}


def test_the_description_gives_the_reason_for_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RawOps(CPU, torch.float32, "reference").described().startswith("group_norm_silu: reference, layer_norm: ")
    monkeypatch.setattr(_impl, "CPP_MISSING", "")
    said = RawOps(CPU, torch.float32).described()
    assert "geglu: cpp, attention: cpp or sdpa, by size" in said
    monkeypatch.setattr(_impl, "CPP_MISSING", "was not built")
    assert "geglu: reference (auto: triton: " in (said := RawOps(CPU, torch.float32).described())
    assert "cpp: was not built), attention: sdpa" in said


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_raw_attention_equals_the_op(impl: str) -> None:
    call = AttentionContract().at("N2-Q5-K3-H2-D8", torch.float32)
    (o,), grads, (do,) = evaluate(lambda **arguments: attention(**arguments, impl=impl), call)
    raw, scale = RawOps(CPU, torch.float32, impl), 8**-0.5
    own, lse = raw.attention_fwd(*call.inputs.values(), scale)
    assert torch.equal(own, o)
    assert all(map(torch.equal, raw.attention_bwd(do, *call.inputs.values(), own, lse, scale), grads))


def test_cudnn_is_named_with_its_gradients_and_takes_only_its_own_log_sum_exp(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = RawOps(torch.device("meta"), torch.bfloat16, "triton")
    raw.cudnn = {40}
    assert "attention: triton or sdpa, by size (for long keys cudnn, whose gradients are" in raw.described()
    q, ran = torch.empty(1, 512, 2, 40, device="meta", dtype=torch.bfloat16), []
    backward = "diffexplain_fast.ops._sdpa.cudnn_attention_bwd"
    monkeypatch.setattr(backward, lambda *given: (ran.append("cudnn"), given[1:4])[1])
    o, lse = raw.attention_fwd(q, q, q, 0.3)
    raw.attention_bwd(o, q, q, q, o, lse, 0.3)
    assert ran == ["cudnn"]
    raw.attention_bwd(o, q, q, q, o, lse[..., 0], 0.3)  # as Triton's forward has it
    monkeypatch.setattr(torch.backends.cuda, "cudnn_sdp_enabled", lambda: False)
    raw.attention_bwd(o, q, q, q, o, lse, 0.3)
    assert ran == ["cudnn"]


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_a_gradient_is_added_to_that_of_layer_norm(impl: str) -> None:
    raw, weight = RawOps(CPU, torch.float32, impl), torch.randn(16)
    x, dy, more = (torch.randn(5, 16) for _ in range(3))
    _, mean, rstd = raw.layer_norm_fwd(x, weight, weight, 1e-5)
    before, wanted = more.clone(), raw.layer_norm_bwd(dy, x, weight, mean, rstd) + more
    assert torch.equal(raw.layer_norm_bwd_add(dy, x, weight, mean, rstd, more), wanted)
    assert torch.equal(more, before), "an argument was written to"


class Named(TorchDispatchMode):
    """Collects the names of this package's operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.startswith("diffexplain_fast"):
            self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def test_with_triton_the_sum_is_in_the_kernel() -> None:
    raw = RawOps(torch.device("meta"), torch.bfloat16, "triton")
    x, row = torch.empty(5, 16, device="meta", dtype=torch.bfloat16), torch.empty(5, device="meta")
    with Named() as mode:
        raw.layer_norm_bwd_add(x, x, x[0], row, row, x)
    assert mode.names == ["diffexplain_fast::layer_norm_bwd_add_triton"]


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_another_gradient_of_a_group_norm_s_input_is_added_and_left_alone(impl: str) -> None:
    raw = RawOps(CPU, torch.float32, impl)
    x, dy, more, beside = (torch.randn(3, 8, 4, 4).to(memory_format=torch.channels_last) for _ in range(4))
    norm, shift = SimpleNamespace(weight=torch.randn(8), bias=torch.randn(8), groups=2), torch.randn(1, 8)
    rows = raw.shift_rows(shift, 3)
    assert rows is shift or (rows.shape == (3, 8) and rows.is_contiguous() and not raw.shares_shift)
    _, mean, rstd = raw.group_norm_fwd(x, None, rows, norm.weight, norm.bias, 2, 1e-5, True)
    wanted, _ = raw.group_norm_bwd(dy, x, None, rows, norm.weight, norm.bias, mean, rstd, 2, True)
    before = more.clone()
    assert torch.equal(raw.group_norm_bwd_add(dy, x, rows, norm, mean, rstd, True, more), wanted + more)
    both = raw.group_norm_bwd_add(dy, x, rows, norm, mean, rstd, True, more, beside)
    assert torch.equal(both, wanted + more + beside)
    assert torch.equal(more, before)


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_a_copy_of_a_norm_s_input_has_an_offset_added_and_is_a_tensor_of_its_own(impl: str) -> None:
    raw, weight, offset = RawOps(CPU, torch.float32, impl), torch.randn(8), torch.randn(8)
    rows = torch.randn(5, 8)
    *found, copy = raw.layer_norm_fwd_copy(rows, weight, weight, 1e-5, offset)
    assert torch.equal(copy, rows + offset)
    assert all(map(torch.equal, found, raw.layer_norm_fwd(rows, weight, weight, 1e-5)))
    x = torch.randn(3, 8, 4, 4).to(memory_format=torch.channels_last)
    norm = SimpleNamespace(weight=weight, bias=offset, groups=2, eps=1e-5)
    for shift in (None, torch.randn(1, 8)):
        given = None if shift is None else raw.shift_rows(shift, 3)
        *found, copy = raw.group_norm_fwd_copy(x, given, norm, False, offset)
        moved = offset if shift is None else shift[0] + offset
        torch.testing.assert_close(copy, x + moved[:, None, None])
        assert copy.is_contiguous(memory_format=torch.channels_last) and copy.data_ptr() != x.data_ptr()
        assert all(map(torch.equal, found, raw.group_norm_fwd(x, None, given, weight, offset, 2, 1e-5, False)))


def test_with_triton_the_copy_is_written_by_the_kernel() -> None:
    raw = RawOps(torch.device("meta"), torch.bfloat16, "triton")
    x = torch.empty(5, 16, device="meta", dtype=torch.bfloat16)
    norm = SimpleNamespace(weight=x[0], bias=x[0], groups=2, eps=1e-5)
    with Named() as mode:
        raw.layer_norm_fwd_copy(x, x[0], x[0], 1e-5, x[0])
        raw.group_norm_fwd_copy(x.view(1, 16, 5, 1), None, norm, False, x[0])
    assert [name.removeprefix("diffexplain_fast::") for name in mode.names] == [
        "layer_norm_fwd_copy_triton",
        "group_norm_silu_fwd_copy_triton",
    ]


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("copies", [False, True])
def test_a_norm_with_known_statistics_is_the_norm(impl: str, copies: bool) -> None:
    raw = RawOps(CPU, torch.float32, impl)
    x, skip = (torch.randn(3, 8, 4, 4).to(memory_format=torch.channels_last) for _ in range(2))
    channels = 8 if copies else 16
    norm = SimpleNamespace(weight=torch.randn(channels), bias=torch.randn(channels), groups=2, eps=1e-5)
    shift, offset = raw.shift_rows(torch.randn(1, channels), 3), torch.randn(channels) if copies else None
    inputs = (x, None if copies else skip, shift)
    y, *statistics = raw.group_norm_fwd(*inputs, norm.weight, norm.bias, 2, 1e-5, True)
    again, copy = raw.group_norm_again(*inputs, norm, statistics, True, offset)
    assert torch.equal(again, y)
    if copies:
        torch.testing.assert_close(copy, x + (shift[0] + offset)[:, None, None])
    else:
        assert copy.numel() == 0


def test_with_triton_known_statistics_are_read() -> None:
    raw = RawOps(torch.device("meta"), torch.bfloat16, "triton")
    x = torch.empty(1, 16, 5, 1, device="meta", dtype=torch.bfloat16)
    norm = SimpleNamespace(weight=x[0, :, 0, 0], bias=x[0, :, 0, 0], groups=2, eps=1e-5)
    statistics = [torch.empty(1, 2, device="meta")] * 2
    with Named() as mode:
        y, copy = raw.group_norm_again(x, None, None, norm, statistics, True)
        _, second = raw.group_norm_again(x, None, None, norm, statistics, True, norm.bias)
    assert mode.names == ["diffexplain_fast::group_norm_silu_again_triton"] * 2
    assert (y.shape, copy.numel(), second.shape) == (x.shape, 0, x.shape)
