"""Bytes and FLOP counted without running, against sizes that are known by hand."""

import gc

import pytest
import torch
import torch.nn.functional as F

from diffexplain_fast.engine.measure import count, live_bytes

SIZE, FLOAT = 1024, 4
"""Elements of the tensors here, and bytes of each."""


def vector(n=SIZE):
    return torch.zeros(n)


def test_kept_is_what_the_backward_needs():
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
def test_flop_of_products_and_convolutions(device):
    weight, x = torch.zeros(8, 16, device=device), torch.zeros(4, 16, device=device)
    found = count(lambda rows: F.linear(rows, weight), [x], [weight])
    assert (found.forward, found.total) == (2 * 4 * 8 * 16, 4 * 4 * 8 * 16)
    kernel, image = torch.zeros(8, 4, 3, 3, device=device), torch.zeros(1, 4, 10, 10, device=device)
    found = count(lambda pixels: F.conv2d(pixels, kernel, padding=1), [image], [kernel])
    assert (found.forward, found.total) == (2 * 100 * 8 * 4 * 9, 4 * 100 * 8 * 4 * 9)


def test_flop_of_attention():
    q, k, v = (torch.zeros(2, 3, n, 8) for n in (6, 10, 10))
    product = 2 * 2 * 3 * 6 * 10 * 8
    found = count(F.scaled_dot_product_attention, [q, k, v], [])
    assert (found.forward, found.total) == (2 * product, 7 * product)


def test_flop_of_what_is_computed_again():
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


def test_an_argument_that_nothing_flows_to_is_allowed():
    assert count(lambda x, y: x * 2, [vector(), vector()], []).forward == 0


def test_live_bytes_of_a_real_computation():
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
