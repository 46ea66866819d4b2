"""A 2 x 2 convolution at the low resolution against nearest upsampling and a 3 x 3 convolution."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from diffexplain_fast.ops import SubpixelWeight, pack_subpixel, upsample_conv
from diffexplain_fast.ops.reference import interleave as reference
from tests.ops.calls import SIDES, Call
from tests.ops.contract import OwnKernels


def upsample(x: Tensor, weight: Tensor, bias: Tensor | None, packed: SubpixelWeight, impl: str = "auto") -> Tensor:
    """Pass the packed weight to the op; ``TestUpsampleConv.plain`` reads the original one."""
    return upsample_conv(x, packed, impl=impl)


class TestUpsampleConv(OwnKernels):
    op = "interleave"
    run = staticmethod(upsample)
    linear = True
    frozen = ("weight", "bias", "packed")
    cases: ClassVar = {
        "N2-3to2": {"n": 2, "height": 3, "width": 2, "channels": (3, 2)},
        "pixel": {"n": 1, "height": 1, "width": 1, "channels": (1, 3), "bias": False},
    }
    sizes = st.fixed_dictionaries(
        {
            "n": SIDES,
            "height": st.sampled_from([1, 2, 7]),
            "width": st.sampled_from([1, 3, 31]),
            "channels": st.tuples(SIDES, SIDES),
            "bias": st.booleans(),
        }
    )
    bad: ClassVar = {
        "no tensor": ({"x": 1.0}, TypeError, "x", "float"),
        "not packed": ({"packed": torch.ones(2, 3, 3, 3)}, TypeError, "packed", "Tensor"),
        "rank": ({"x": lambda x: x[0]}, ValueError, "x", r"\[3, 3, 2\]"),
        "channels": ({"x": lambda x: x[:, 1:]}, ValueError, "x", r"\[2, 2, 3, 2\]"),
        "dtype": ({"x": lambda x: x.double()}, ValueError, "x", "torch.float64 on cpu"),
        "impl": ({"impl": "cuda"}, ValueError, "impl", "'cuda'"),
    }

    def make(
        self, dtype: torch.dtype, *, n: int, height: int, width: int, channels: tuple[int, int], bias: bool = True
    ) -> Call:
        inside, outside = channels
        weight = torch.randn(outside, inside, 3, 3, dtype=dtype) / 3
        offset = torch.randn(outside, dtype=dtype) if bias else None
        x = torch.randn(n, inside, height, width, dtype=dtype)
        return Call({"x": x}, {"weight": weight, "bias": offset, "packed": pack_subpixel(weight, offset)})

    def plain(self, x: Tensor, weight: Tensor, bias: Tensor | None, packed: Any) -> Tensor:
        return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)

    def kept(self, call: Call) -> int:
        return 0

    def raw(self, call: Call) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
        n, channels, height, width = call.inputs["x"].shape
        parts = torch.randn(
            n, 4 * channels, height, width, dtype=call.inputs["x"].dtype, device=call.inputs["x"].device
        )
        parts = parts.contiguous(memory_format=torch.channels_last)
        dy = torch.randn_like(reference.interleave_fwd(parts))
        return {
            "interleave_fwd": (reference.interleave_fwd, (parts,)),
            "interleave_bwd": (reference.interleave_bwd, (dy,)),
        }


@pytest.mark.parametrize(
    ("weight", "error", "got"),
    [
        (None, TypeError, "NoneType"),
        (torch.ones(2, 3, 1, 1), ValueError, r"\[2, 3, 1, 1\]"),
        (torch.ones(3, 3), ValueError, r"\[3, 3\]"),
        (torch.ones(2, 3, 3, 3, requires_grad=True), ValueError, "one that requires grad"),
    ],
)
def test_bad_weights_are_named(weight: Any, error: type[Exception], got: str) -> None:
    with pytest.raises(error, match=f"^weight: wanted .+, got {got}"):
        pack_subpixel(weight, None)


def test_taps_are_summed_in_float32() -> None:
    weight = torch.randn(2, 3, 3, 3, dtype=torch.float16)
    wide = pack_subpixel(weight.float(), None)
    packed = pack_subpixel(weight, None).convolution.weight
    assert torch.equal(packed, wide.convolution.weight.half())
