"""Bytes and FLOP counted without running, against sizes that are known by hand."""

import gc

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from diffexplain_fast.engine.memory.counting import Counting, Results, count, hollow, live_bytes
from diffexplain_fast.ops.attention import attention

SIZE, FLOAT = 1024, 4
"""Elements of the tensors here, and bytes of each."""


def vector(n=SIZE):
    return torch.zeros(n)


def test_kept_counts_the_tensors_that_the_backward_needs():
    found = count(lambda x: x.exp().exp(), [vector()], [])
    assert found.kept == 2 * SIZE * FLOAT  # both outputs; the argument is not counted


def test_arguments_and_weights_and_views_of_them_are_not_counted():
    weight = torch.zeros(32, 32)
    found = count(lambda x: F.linear(x.view(32, 32), weight[:16]), [vector()], [weight])
    assert found.kept == 0
    assert found.peak == (32 * 16 + 32 * 16 + SIZE) * FLOAT  # output, its gradient, the argument's gradient


def test_a_storage_is_counted_once():
    found = count(lambda x: (x.exp() * x.exp()[:8].sum()).view(32, 32).t(), [vector()], [])
    assert found.kept <= (2 * SIZE + 8 + 16) * FLOAT


def test_peak_falls_when_tensors_die():
    def long(x):
        for _ in range(10):
            x = x + 1
        return x

    assert count(long, [vector()], []).peak <= 4 * SIZE * FLOAT


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_flop_of_products_and_convolutions_are_two_per_multiply_add(device):
    weight, x = torch.zeros(8, 16, device=device), torch.zeros(4, 16, device=device)
    found = count(lambda rows: F.linear(rows, weight), [x], [weight])
    assert (found.forward, found.total) == (2 * 4 * 8 * 16, 4 * 4 * 8 * 16)
    kernel, image = torch.zeros(8, 4, 3, 3, device=device), torch.zeros(1, 4, 10, 10, device=device)
    found = count(lambda pixels: F.conv2d(pixels, kernel, padding=1), [image], [kernel])
    assert (found.forward, found.total) == (2 * 100 * 8 * 4 * 9, 4 * 100 * 8 * 4 * 9)


def test_flop_of_attention_are_two_products_forward_and_five_backward():
    q, k, v = (torch.zeros(2, 3, n, 8) for n in (6, 10, 10))
    product = 2 * 2 * 3 * 6 * 10 * 8
    found = count(F.scaled_dot_product_attention, [q, k, v], [])
    assert (found.forward, found.total) == (2 * product, 7 * product)


def test_cudnns_attention_is_counted_with_its_workspace():
    q = torch.empty(2, 300, 3, 40, dtype=torch.bfloat16, device="meta")
    found = count(lambda q: attention(q, q, q, impl="cudnn"), [q], [])
    product = 2 * 2 * 3 * 300 * 300 * 40
    assert (found.forward, found.total) == (2 * product, 7 * product)
    assert found.kept == 2 * q.numel() + 4 * 2 * 3 * 300, "the output and one number a query"
    assert found.operands == 4 * 2 * 3 * 384 * (64 + 2), "sums in float32 of whole tiles"


def test_flop_include_the_recomputed_forward():
    def twice(x):
        return torch.utils.checkpoint.checkpoint(lambda rows: (rows @ rows).exp() @ rows, x, use_reentrant=False)

    plain = count(lambda rows: (rows @ rows).exp() @ rows, [torch.zeros(8, 8)], [])
    again = count(twice, [torch.zeros(8, 8)], [])
    assert again.forward == plain.forward and again.kept < plain.kept
    assert plain.total < again.total <= plain.total + plain.forward


def test_nothing_runs_and_no_random_number_is_drawn():
    def fail(x):
        assert not x.is_cpu or type(x).__name__ == "FakeTensor"
        return x * torch.randn(())

    state = torch.get_rng_state()
    count(fail, [vector()], [])
    assert torch.equal(torch.get_rng_state(), state)


def small_model():
    """Convolutions in channels-last, norms, products, operations in place, views; its weights."""
    torch.manual_seed(0)
    kernel = torch.randn(8, 8, 3, 3).contiguous(memory_format=torch.channels_last)
    matrix, weight = torch.randn(8, 8), torch.ones(8)

    def forward(x, kernel=kernel, matrix=matrix, weight=weight):
        x = x.contiguous(memory_format=torch.channels_last)
        for _ in range(3):
            x = F.conv2d(F.silu(F.group_norm(x, 2, weight, weight)), kernel, padding=1).add_(1)
            x = F.linear(x.permute(0, 2, 3, 1), matrix).squeeze_(0).unsqueeze_(0).permute(0, 3, 1, 2)
        return x.square()

    return forward, [kernel, matrix, weight]


def test_meta_tensors_count_as_fake_ones_do():
    forward, weights = small_model()
    x = torch.randn(1, 8, 6, 6)
    fake = count(forward, [x], weights)
    twins = [weight.to("meta") for weight in weights]
    assert count(lambda pixels: forward(pixels, *twins), [x.to("meta")], twins) == fake


def test_results_of_another_count_change_nothing_but_the_time():
    forward, weights = small_model()
    twins, results = [weight.to("meta") for weight in weights], Results()
    shapes = [torch.empty(1, 8, size, size, device="meta") for size in (6, 9, 6)]
    alone = [count(lambda pixels: forward(pixels, *twins), [x], twins) for x in shapes]
    assert [count(lambda pixels: forward(pixels, *twins), [x], twins, results) for x in shapes] == alone
    assert results and alone[0] == alone[2] != alone[1]


def test_a_list_of_results_stays_a_list_when_it_is_known_from_before():
    tensors, results = [torch.empty(2, device="meta"), torch.empty(3, device="meta")], Results()
    shapes = []
    with Counting(results):
        for _ in range(2):
            shapes.append([tensor.shape for tensor in torch._foreach_neg(tensors)])
            assert torch.neg(tensors[0]).shape == (2,)
    assert shapes == [[(2,), (3,)]] * 2 and len(results) == 2


def test_flop_are_those_of_torchs_counter():
    forward, weights = small_model()
    x = torch.randn(1, 8, 6, 6, requires_grad=True)
    found = count(forward, [x], weights)
    with FlopCounterMode(display=False) as flops:
        out = forward(x * 1)
        forward_flops = flops.get_total_flops()
        torch.autograd.grad(out, x, torch.ones_like(out))
    assert (found.forward, found.total) == (forward_flops, flops.get_total_flops())


def test_a_hollow_copy_has_the_same_shapes_and_no_memory():
    kept, shared = torch.randn(4, 3).t(), object()
    model = {"weight": [kept, kept], "shared": shared, "number": 3}
    twin = hollow(model, [kept], [shared])
    assert twin["weight"][0] is twin["weight"][1] and twin["shared"] is shared and twin["number"] == 3
    assert twin["weight"][0].is_meta and twin["weight"][0].stride() == kept.stride()
    assert model["weight"][0] is kept and not kept.is_meta


def test_an_argument_that_nothing_flows_to_is_allowed():
    assert count(lambda x, y: x * 2, [vector(), vector()], []).forward == 0


def test_live_bytes_follow_a_real_computation():
    x = vector().requires_grad_()
    with live_bytes() as live:
        y = x.exp()
        z = y.exp()
        assert live.now == live.peak == 2 * SIZE * FLOAT
        del y, z
        gc.collect()
        assert live.now == 0
        x.detach().add_(1)
        assert live.now == 0 and live.peak == 2 * SIZE * FLOAT


def test_known_tensors_are_left_out_of_live_bytes():
    x = vector()
    with live_bytes() as live:
        live.known(x)
        x.view(32, 32).t().mul_(2)
        assert live.peak == 0


def test_the_largest_convolutions_operands_are_counted():
    with torch.device("meta"):
        image, small, large = torch.empty(1, 4, 8, 8), torch.empty(2, 4, 3, 3), torch.empty(6, 2, 3, 3)
    weights = [small, large]
    results = Results()
    for _ in range(2):  # the second time from the operations that are known
        found = count(lambda x: F.conv2d(F.conv2d(x, small, padding=1), large), [image], weights, results)
        assert found.operands == FLOAT * max(4 * 64 + 72 + 2 * 64, 2 * 64 + 108 + 6 * 36)
    assert count(lambda x: x.exp(), [image], []).operands == 0
