"""The frozen convolution against torch's."""

from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from diffexplain_fast.ops import conv2d_frozen
from tests.ops.calls import SIDES, Call
from tests.ops.contract import OwnBackward


class TestConv2dFrozen(OwnBackward):
    run = staticmethod(conv2d_frozen)
    linear = True
    cases: ClassVar = {
        "3x3": {"n": 2, "height": 5, "width": 4, "channels": (3, 2), "side": 3, "padding": 1},
        "3x3-stride2": {"n": 1, "height": 4, "width": 7, "channels": (2, 3), "side": 3, "padding": 1, "stride": 2},
        "1x1-no-bias": {"n": 2, "height": 2, "width": 3, "channels": (3, 4), "side": 1, "padding": 0, "bias": False},
    }
    sizes = st.fixed_dictionaries(
        {
            "n": SIDES,
            "height": st.sampled_from([2, 7, 9]),
            "width": st.sampled_from([3, 8, 63]),
            "channels": st.tuples(SIDES, SIDES),
            "side": st.sampled_from([1, 2, 3]),
            "padding": st.sampled_from([0, 1]),
            "stride": st.sampled_from([1, 2]),
            "bias": st.booleans(),
        }
    ).filter(lambda size: size["height"] + 2 * size["padding"] >= size["side"])
    bad: ClassVar = {
        "no tensor": ({"x": 1.0}, TypeError, "x", "float"),
        "no weight": ({"weight": None}, TypeError, "weight", "NoneType"),
        "no bias": ({"bias": [0.0, 0.0]}, TypeError, "bias", "list"),
        "rank": ({"x": lambda x: x[0]}, ValueError, "weight", r"\[2, 3, 3, 3\]"),
        "channels": ({"weight": torch.ones(2, 4, 3, 3)}, ValueError, "weight", r"\[2, 4, 3, 3\]"),
        "dtype": (
            {"weight": lambda weight: weight.double()},
            ValueError,
            "weight",
            r"torch.float64 \[2, 3, 3, 3\] on cpu",
        ),
        "bias": ({"bias": torch.ones(3)}, ValueError, "bias", r"torch.float32 \[3\]"),
        "trained": ({"weight": lambda weight: weight.requires_grad_()}, ValueError, "weight", "one that requires grad"),
        "pair": ({"stride": (1, 1)}, TypeError, "stride", "tuple"),
        "stride": ({"stride": 0}, ValueError, "stride", "0"),
        "padding": ({"padding": -1}, ValueError, "padding", "-1"),
    }

    def make(
        self,
        dtype: torch.dtype,
        *,
        n: int,
        height: int,
        width: int,
        channels: tuple[int, int],
        side: int,
        padding: int,
        stride: int = 1,
        bias: bool = True,
    ) -> Call:
        inside, outside = channels
        weight = torch.randn(outside, inside, side, side, dtype=dtype) / side
        offset = torch.randn(outside, dtype=dtype) if bias else None
        fixed = {"weight": weight, "bias": offset, "stride": stride, "padding": padding}
        return Call({"x": torch.randn(n, inside, height, width, dtype=dtype)}, fixed)

    def plain(self, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        return F.conv2d(x, weight, bias, stride, padding)

    def kept(self, call: Call) -> int:
        return 0


def test_an_input_without_grad_records_no_graph() -> None:
    with torch.no_grad():
        y = conv2d_frozen(torch.ones(1, 1, 3, 3, requires_grad=True), torch.ones(1, 1, 3, 3))
    assert not y.requires_grad


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [(3, 1), (1, 3), (2, 4)])
def test_a_kernel_that_is_not_square_gives_torchs_result(kernel: tuple[int, int], stride: int) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 7, 8, generator=draw).requires_grad_()
    weight = torch.randn(4, 3, *kernel, generator=draw)
    got, wanted = conv2d_frozen(x, weight, stride=stride, padding=1), F.conv2d(x, weight, None, stride, 1)
    torch.testing.assert_close(got, wanted)
    cotangent = torch.randn(wanted.shape, generator=draw)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, cotangent)[0] for y in (got, wanted)))


def test_trained_weights_are_accepted_if_no_gradient_is_recorded() -> None:
    weight = torch.ones(2, 3, 1, 1, requires_grad=True)
    with torch.no_grad():
        assert not conv2d_frozen(torch.ones(1, 3, 2, 2), weight).requires_grad
