"""Operations are counted with their FLOP, bytes and ranges, and tensors with their lives."""

import pytest
import torch
from torch import Tensor
from torch.profiler import profile, record_function

from diffexplain_fast.measuring.profile.counting import (
    KEPT,
    Counter,
    Operation,
    bytes_by_owner,
    counting,
    match,
    starts,
)
from diffexplain_fast.measuring.profile.events import Call, host_calls
from diffexplain_fast.ops._onednn import PackedMatrix, PackedWeight, applies
from diffexplain_fast.ops.attention import attention


def only(counter: Counter, name: str) -> Operation:
    (found,) = [operation for operation in counter.operations if operation.name == name]
    return found


def test_a_product_counts_its_flop_and_three_matrices() -> None:
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    with counting() as counter:
        a @ b
    assert counter.operations == [Operation("aten::mm", 2 * 3 * 5 * 7, 4 * (15 + 35 + 21))]


def test_a_convolution_costs_as_much_forward_as_backward() -> None:
    x, weight = torch.ones(2, 3, 8, 8, requires_grad=True), torch.ones(5, 3, 3, 3)
    with counting() as counter:
        out = torch.nn.functional.conv2d(x, weight, padding=1)
        torch.autograd.grad(out, x, torch.ones_like(out))
    ahead = 2 * (2 * 5 * 64) * (3 * 9)
    assert only(counter, "aten::convolution") == ("aten::convolution", ahead, 4 * (2 * 3 * 64 + 5 * 27 + 2 * 5 * 64))
    assert only(counter, "aten::convolution_backward").flop == ahead


def test_calls_of_onednn_have_flop() -> None:
    x, weight, rows, matrix = torch.ones(2, 3, 8, 8), torch.ones(5, 3, 3, 3), torch.ones(6, 4), torch.ones(7, 4)
    if not applies(x):
        pytest.skip("this torch has no oneDNN calls")
    convolution, product = PackedWeight(weight, 1, 1, x), PackedMatrix(matrix, 6)
    with counting() as counter:
        convolution(x, None)
        product(rows, None)
    assert only(counter, "mkldnn::_convolution_pointwise").flop == 2 * (2 * 5 * 64) * (3 * 9)
    assert only(counter, "mkldnn::_linear_pointwise") == (
        "mkldnn::_linear_pointwise",
        2 * 6 * 7 * 4,
        4 * (24 + 28 + 42),
    )


@pytest.mark.parametrize("impl", ["reference", "auto"])
def test_attention_has_the_flop_of_its_products(impl: str) -> None:
    q, k = (torch.randn(2, n, 3, 8, requires_grad=True) for n in (5, 7))
    with counting() as counter:
        out = attention(q, k, k, impl=impl)
        torch.autograd.grad(out, [q, k], torch.ones_like(out))
    products = 2 * (2 * 3) * (5 * 7) * 8
    assert sum(operation.flop or 0 for operation in counter.operations) in (6 * products, 7 * products)


def test_operations_without_a_formula_have_only_bytes() -> None:
    x, table = torch.ones(4, 6), torch.ones(100, 6)
    with counting() as counter:
        x.exp()
        x[:1].expand(4, 6).exp()
        torch.empty(4, 6).copy_(x)
        torch.nn.functional.embedding(torch.tensor([3, 5]), table)
    assert all(operation.flop is None for operation in counter.operations)
    exp = [operation.moved for operation in counter.operations if operation.name == "aten::exp"]
    assert exp == [4 * 48, 4 * (6 + 24)]
    assert only(counter, "aten::copy_").moved == 4 * 48
    assert only(counter, "aten::embedding").moved == 2 * 4 * 12 + 2 * 8


def chain(x: Tensor, weight: Tensor) -> Tensor:
    return (x.exp() @ weight).tanh().square().sum()


def test_what_is_kept_is_what_autograd_saves() -> None:
    x, weight = torch.ones(3, 5, requires_grad=True), torch.ones(5, 7)
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = chain(x, weight)
    outside = {tensor.untyped_storage()._cdata for tensor in (x, weight)}
    wanted = sum(size for place, size in saved.items() if place not in outside)
    del loss
    with counting() as counter:
        loss = chain(x, weight)
        backward = len(counter.operations)
        (found,) = torch.autograd.grad(loss, x)
    kept = bytes_by_owner(counter.lives, len(counter.operations), backward)[KEPT]
    assert kept[backward] == wanted > 0
    assert all(stop is not None for life in counter.lives for _, stop in life.saved)  # let go by the backward
    assert torch.equal(found, torch.autograd.grad(chain(x, weight), x)[0])


def test_nothing_lives_on_because_it_was_counted() -> None:
    x = torch.ones(64, requires_grad=True)
    with counting() as counter:
        y = x.exp()  # saves its own result
        del y
    assert [(life.size, life.died) for life in counter.lives] == [(256, 1)]
    assert counter.lives[0].saved == [(1, 1)]


def test_a_life_names_the_device_of_its_tensor() -> None:
    with counting() as counter:
        torch.ones(2)
        torch.ones(2, device="meta")
    assert [life.device for life in counter.lives] == ["cpu", "meta"]


def test_a_range_is_noted_with_the_operations_before_it() -> None:
    with counting() as counter:
        torch.ones(2).exp()
        with record_function("part: a"):
            torch.ones(2)
    assert counter.ranges == [(2, "part: a")] and len(counter.operations) == 3


def test_each_operation_finds_its_call() -> None:
    x, weight = torch.ones(3, 5, requires_grad=True), torch.ones(5, 7)

    def run() -> None:
        torch.autograd.grad(chain(x, weight), x)

    with counting() as counter:
        run()
    with profile(acc_events=True) as profiler:
        run()
    found = match(counter.operations, host_calls(profiler.events()))
    pairs = [(operation.name, call.name) for operation, call in zip(counter.operations, found, strict=True) if call]
    assert all(counted == seen for counted, seen in pairs)
    assert {"aten::exp", "aten::mm", "aten::tanh", "aten::tanh_backward"} <= {counted for counted, _ in pairs}
    moments = starts(found, 0.0)
    assert moments == sorted(moments)


def test_the_nth_operation_of_a_name_is_the_nth_outermost_call() -> None:
    operations = [Operation(name, None, 0) for name in ("aten::a", "aten::add", "aten::b", "aten::a")]
    calls = [
        Call("aten::outer", 0.0, 9.0, 0.0),
        Call("aten::a", 1.0, 3.0, 0.0),
        Call("aten::add_", 2.0, 2.5, 0.0),  # inside of a
        Call("aten::add_", 4.0, 5.0, 0.0),
        Call("aten::a", 6.0, 7.0, 0.0),
        *[Call("aten::b", 7.0 + i, 7.5 + i, 0.0) for i in range(2)],
    ]
    found = match(operations, calls)
    assert found == [calls[1], calls[3], None, calls[4]]
    assert starts(found, 1.0) == [0.0, 3.0, 3.0, 5.0]
