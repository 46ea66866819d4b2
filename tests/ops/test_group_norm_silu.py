"""GroupNorm, the shift before it, SiLU after it and the second source, compared with four calls of torch."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from diffexplain_fast.ops import group_norm_silu
from diffexplain_fast.ops._load import CPP_MISSING
from diffexplain_fast.ops.reference import group_norm_silu as reference
from tests.ops.calls import SIDES, Call, evaluate, size_of
from tests.ops.normalisation import Normalisation

_SMALL = {"n": 2, "groups": 3, "height": 3, "width": 2}


class TestGroupNormSilu(Normalisation):
    op = "group_norm_silu"
    run = staticmethod(group_norm_silu)
    cases: ClassVar = {
        "all": {**_SMALL, "parts": (4, 5)},
        "norm": {**_SMALL, "parts": (6,), "shift": False, "silu": False},
        "skip": {**_SMALL, "parts": (2, 4), "shift": False},
        "shift": {**_SMALL, "parts": (3,)},
    }
    wide: ClassVar = {"height": 7, "width": 9}
    large: ClassVar = {"n": 1, "height": 401, "width": 401}
    sizes = st.fixed_dictionaries(
        {
            "n": SIDES,
            "height": st.sampled_from([1, 2, 7]),
            "width": st.sampled_from([1, 3, 9]),
            "shift": st.booleans(),
            "silu": st.booleans(),
            "mean": st.sampled_from([0.0, 4.0]),
        }
        | {"groups": st.just(2), "parts": st.sampled_from([(10,), (14,), (63, 1), (1, 9), (7, 3), (32, 32)])}
    )
    bad: ClassVar = {
        "no tensor": ({"x": None}, TypeError, "x", "NoneType"),
        "rank": ({"x": lambda x: x[0]}, ValueError, "x", r"torch.float32 \[4, 3, 2\]"),
        "whole numbers": ({"x": lambda x: x.int()}, ValueError, "x", "torch.int32"),
        "no weight": ({"weight": 1.0}, TypeError, "weight", "float"),
        "weight": ({"weight": torch.ones(4)}, ValueError, "weight", r"torch.float32 \[4\] on cpu"),
        "trained": ({"weight": lambda weight: weight.requires_grad_()}, ValueError, "weight", "one that requires grad"),
        "groups": ({"num_groups": 2}, ValueError, "num_groups", "2"),
        "no groups": ({"num_groups": 0}, ValueError, "num_groups", "0"),
        "half a group": ({"num_groups": 1.5}, TypeError, "num_groups", "float"),
        "no skip": ({"skip": [1.0]}, TypeError, "skip", "list"),
        "skip": ({"skip": lambda skip: skip[..., 1:]}, ValueError, "skip", r"\[2, 5, 3, 1\]"),
        "skip's dtype": ({"skip": lambda skip: skip.half()}, ValueError, "skip", "torch.float16"),
        "no shift": ({"shift": 1.0}, TypeError, "shift", "float"),
        "shift": ({"shift": lambda shift: shift[:, 1:]}, ValueError, "shift", r"torch.float32 \[2, 8\]"),
        "a truth for a number": ({"num_groups": True}, TypeError, "num_groups", "bool"),
        "elsewhere": (
            {"weight": lambda weight: weight.to("meta")},
            ValueError,
            "weight",
            r"torch.float32 \[9\] on meta",
        ),
        "eps": ({"eps": -1.0}, ValueError, "eps", "-1.0"),
        "no eps": ({"eps": float("nan")}, ValueError, "eps", "nan"),
        "impl": ({"impl": "sdpa"}, ValueError, "impl", "'sdpa'"),
    }

    def make(
        self,
        dtype: torch.dtype,
        *,
        n: int,
        groups: int,
        parts: tuple[int, ...],
        height: int,
        width: int,
        shift: bool = True,
        silu: bool = True,
        mean: float = 1.0,
    ) -> Call:
        channels = sum(parts)
        inputs = {
            name: (mean + torch.randn(n, part, height, width, dtype=dtype)).contiguous(
                memory_format=torch.channels_last
            )
            for name, part in zip(("x", "skip"), parts, strict=False)
        }
        if shift:
            inputs["shift"] = torch.randn(n, channels, dtype=dtype)
        weight, bias = 1 + 0.3 * torch.randn(channels, dtype=dtype), torch.randn(channels, dtype=dtype)
        return Call(inputs, {"weight": weight, "bias": bias, "num_groups": groups, "eps": 1e-5, "silu": silu})

    def plain(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        num_groups: int,
        eps: float,
        silu: bool,
        skip: Tensor | None = None,
        shift: Tensor | None = None,
    ) -> Tensor:
        u = x if skip is None else torch.cat([x, skip], 1)
        v = F.group_norm(u if shift is None else u + shift[..., None, None], num_groups, weight, bias, eps)
        return F.silu(v) if silu else v

    def kept(self, call: Call) -> int:
        statistics = 2 * len(call.inputs["x"]) * call.fixed["num_groups"] * torch.float32.itemsize
        return size_of(*call.inputs.values()) + statistics

    def raw(self, call: Call) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
        weight, bias, groups, eps, silu = call.fixed.values()
        tensors = (*map(call.inputs.get, ("x", "skip", "shift")), weight, bias)
        forward = (*tensors, groups, eps, silu)
        y, *statistics = reference.group_norm_silu_fwd(*forward)
        backward = (torch.randn_like(y), *tensors, *statistics, groups, silu)
        return {
            "group_norm_silu_fwd": (reference.group_norm_silu_fwd, forward),
            "group_norm_silu_bwd": (reference.group_norm_silu_bwd, backward),
        }


def test_weights_in_float32_serve_half_precision() -> None:
    call = TestGroupNormSilu().at("all", torch.bfloat16)
    wide = Call(call.inputs, call.fixed | {name: call.fixed[name].float() for name in ("weight", "bias")})
    made, grads, cotangents = evaluate(group_norm_silu, call)
    same, same_grads, _ = evaluate(group_norm_silu, wide, cotangents)
    assert all(torch.equal(*pair) for pair in zip((*made, *grads), (*same, *same_grads), strict=True))


def test_the_result_is_channels_last() -> None:
    call = TestGroupNormSilu().at("all", torch.float32)
    plain_layout = {name: value.contiguous() for name, value in call.inputs.items()}
    assert group_norm_silu(**plain_layout, **call.fixed).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("impl", ["reference", "cpp"])
@pytest.mark.parametrize("pixel", [0, 1, 7, 500])
def test_one_large_pixel_costs_no_precision(impl: str, pixel: int) -> None:
    """Differences from a single pixel lose three digits if it is the large one; the bound is a few roundings."""
    if impl == "cpp" and CPP_MISSING:
        pytest.skip(CPP_MISSING)
    x = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0)) / 2
    x[:, :, pixel // 64, pixel % 64] = 1000.0
    weight, bias = torch.ones(4), torch.zeros(4)
    wanted = F.silu(F.group_norm(x.double(), 2, weight.double(), bias.double()))
    error = (group_norm_silu(x, weight, bias, 2, impl=impl) - wanted).flatten(2)
    others = torch.arange(64 * 64) != pixel
    assert error[..., others].norm() <= 8 * torch.finfo(torch.float32).eps * wanted.flatten(2)[..., others].norm()
