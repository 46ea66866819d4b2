"""GEGLU against chunk and torch's erf GELU."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from diffexplain_fast.ops import geglu
from diffexplain_fast.ops.reference import geglu as reference
from tests.ops.calls import LENGTHS, SIDES, Call, size_of
from tests.ops.contract import OwnKernels


class TestGeglu(OwnKernels):
    op = "geglu"
    run = staticmethod(geglu)
    cases: ClassVar = {"N2-R3-D5": {"n": 2, "rows": 3, "columns": 5}}
    sizes = st.fixed_dictionaries({"n": SIDES, "rows": LENGTHS, "columns": LENGTHS})
    bad: ClassVar = {
        "no tensor": ({"h": [1.0, 2.0]}, TypeError, "h", "list"),
        "odd": ({"h": lambda h: h[..., 1:]}, ValueError, "h", r"torch.float32 \[2, 3, 9\]"),
        "whole numbers": ({"h": lambda h: h.long()}, ValueError, "h", "torch.int64"),
        "a number": ({"h": torch.tensor(1.0)}, ValueError, "h", r"torch.float32 \[\]"),
        "impl": ({"impl": "cuda"}, ValueError, "impl", "'cuda'"),
    }

    def make(self, dtype: torch.dtype, *, n: int, rows: int, columns: int) -> Call:
        return Call({"h": 2 * torch.randn(n, rows, 2 * columns, dtype=dtype)}, {})

    def plain(self, h: Tensor) -> Tensor:
        value, gate = h.chunk(2, -1)
        return value * F.gelu(gate)

    def kept(self, call: Call) -> int:
        return size_of(call.inputs["h"])

    def raw(self, call: Call) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
        rows = call.inputs["h"].flatten(0, 1)
        y = reference.geglu_fwd(rows)
        return {
            "geglu_fwd": (reference.geglu_fwd, (rows,)),
            "geglu_bwd": (reference.geglu_bwd, (torch.randn_like(y), rows)),
        }
