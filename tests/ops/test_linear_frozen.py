"""The frozen linear layer against torch's."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from diffexplain_fast.ops import linear_frozen
from tests.ops.calls import LENGTHS, SIDES, Call
from tests.ops.contract import Contract


class TestLinearFrozen(Contract):
    run = staticmethod(linear_frozen)
    cases: ClassVar = {
        "N2-R3-4to5": {"n": 2, "rows": 3, "channels": (4, 5)},
        "no-bias": {"n": 2, "rows": 1, "channels": (3, 2), "bias": False},
    }
    sizes = st.fixed_dictionaries(
        {"n": SIDES, "rows": LENGTHS, "channels": st.tuples(LENGTHS, LENGTHS), "bias": st.booleans()}
    )
    bad: ClassVar = {
        "no tensor": ({"x": [1.0]}, TypeError, "x", "list"),
        "no weight": ({"weight": 1.0}, TypeError, "weight", "float"),
        "no bias": ({"bias": 0.0}, TypeError, "bias", "float"),
        "channels": ({"weight": torch.ones(5, 3)}, ValueError, "weight", r"\[5, 3\]"),
        "dtype": ({"weight": lambda weight: weight.double()}, ValueError, "weight", r"torch.float64 \[5, 4\] on cpu"),
        "bias": ({"bias": torch.ones(4)}, ValueError, "bias", r"torch.float32 \[4\]"),
        "trained": ({"weight": lambda weight: weight.requires_grad_()}, ValueError, "weight", "one that requires grad"),
    }

    def make(self, dtype: torch.dtype, *, n: int, rows: int, channels: tuple[int, int], bias: bool = True) -> Call:
        inside, outside = channels
        weight = torch.randn(outside, inside, dtype=dtype)
        offset = torch.randn(outside, dtype=dtype) if bias else None
        return Call({"x": torch.randn(n, rows, inside, dtype=dtype)}, {"weight": weight, "bias": offset})

    def plain(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def kept(self, call: Call) -> int:
        return 0
