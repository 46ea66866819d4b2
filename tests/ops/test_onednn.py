"""Weights that are laid out once for oneDNN give the results of torch's calls, for any shape and in any mode."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffexplain_fast.ops import _onednn
from diffexplain_fast.ops.conv2d_frozen import Convolution
from diffexplain_fast.ops.linear_frozen import PackedLinear

needs_onednn = pytest.mark.skipif(not _onednn._works(), reason="this torch has no oneDNN, or other functions of it")


def close(got: Tensor, wanted: Tensor) -> bool:
    """Return whether float32 results differ only by the order of their sums."""
    return bool((got - wanted).norm() <= 1e-6 * wanted.norm())


def made(channels: tuple[int, int] = (5, 7), side: int = 3, bias: bool = True) -> tuple[Tensor, Tensor | None]:
    inside, outside = channels
    weight = torch.randn(outside, inside, side, side).contiguous(memory_format=torch.channels_last)
    return weight, torch.randn(outside) if bias else None


@needs_onednn
@pytest.mark.parametrize(("side", "padding", "stride"), [(3, 1, 1), (3, 1, 2), (1, 0, 1), (2, 1, 1), (2, 0, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_convolution_takes_other_shapes_than_the_first(
    side: int, padding: int, stride: int, bias: bool
) -> None:
    weight, offset = made(side=side, bias=bias)
    packed = Convolution(weight, offset, stride, padding)
    for n, height, width in ((2, 8, 8), (1, 8, 8), (3, 5, 16), (2, 8, 8)):
        x = torch.randn(n, 5, height, width).contiguous(memory_format=torch.channels_last).requires_grad_()
        wanted, y = F.conv2d(x, weight, offset, stride, padding), packed(x)
        assert close(y, wanted) and y.is_contiguous(memory_format=torch.channels_last)
        dy = torch.randn_like(y)
        assert close(*(torch.autograd.grad(out, x, dy)[0] for out in (y, wanted)))
    assert packed._forward is not None and (packed._backward is not None) == (stride == 1)


@needs_onednn
def test_a_layout_created_in_inference_mode_serves_gradients() -> None:
    packed = Convolution(*made(), 1, 1)
    with torch.inference_mode():
        packed(torch.randn(1, 5, 4, 4))
    x = torch.randn(1, 5, 4, 4, requires_grad=True)
    packed(x).sum().backward()
    assert x.grad is not None


@needs_onednn
def test_a_packed_product_takes_other_numbers_of_rows_than_the_first() -> None:
    weight, bias = torch.randn(48, 16), torch.randn(48)
    packed = PackedLinear(weight, bias)
    for rows in (8, 1, 64):
        x, dy = torch.randn(rows, 16), torch.randn(rows, 48)
        assert close(packed.forward(x), F.linear(x, weight, bias)) and close(packed.backward(dy), dy @ weight)
    assert packed._forward is not None and packed._backward is not None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_other_dtypes_run_through_torch(dtype: torch.dtype) -> None:
    weight, bias = (part.to(dtype) for part in made())
    packed, x = Convolution(weight, bias, 1, 1), torch.randn(1, 5, 4, 4).to(dtype)
    assert torch.equal(packed(x), F.conv2d(x, weight, bias, 1, 1)) and packed._forward is None


def test_a_torch_without_these_functions_runs_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise AttributeError("no such function")

    monkeypatch.setattr(_onednn.PackedWeight, "__init__", missing)
    _onednn._works.cache_clear()
    try:
        weight, bias = made()
        x = torch.randn(1, 5, 4, 4)
        assert torch.equal(Convolution(weight, bias, 1, 1)(x), F.conv2d(x, weight, bias, 1, 1))
    finally:
        _onednn._works.cache_clear()


def test_a_weight_changed_before_the_backward_is_noticed() -> None:
    weight, bias = made()
    y = Convolution(weight, bias, 1, 1)(torch.randn(1, 5, 4, 4, requires_grad=True))
    weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
