"""LayerNorm against torch's."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from diffexplain_fast.ops import layer_norm
from diffexplain_fast.ops.reference import layer_norm as reference
from tests.ops.calls import LENGTHS, SIDES, Call, evaluate, size_of, variants
from tests.ops.normalisation import Normalisation


class TestLayerNorm(Normalisation):
    op = "layer_norm"
    run = staticmethod(layer_norm)
    cases: ClassVar = {"N2-R3-D5": {"n": 2, "rows": 3, "columns": 5}}
    wide: ClassVar = {"columns": 63}
    large: ClassVar = {"rows": 513, "columns": 1031}
    sizes = st.fixed_dictionaries(
        {"n": SIDES, "rows": LENGTHS, "columns": st.sampled_from([1, 5, 63, 64]), "mean": st.sampled_from([0.0, 4.0])}
    )
    bad: ClassVar = {
        "no tensor": ({"x": 1.0}, TypeError, "x", "float"),
        "no weight": ({"weight": None}, TypeError, "weight", "NoneType"),
        "whole numbers": ({"x": lambda x: x.long()}, ValueError, "x", "torch.int64"),
        "long weight": ({"weight": torch.ones(6)}, ValueError, "weight", r"torch.float32 \[6\] on cpu"),
        "short bias": ({"bias": torch.ones(1)}, ValueError, "bias", r"torch.float32 \[1\] on cpu"),
        "wide weight": ({"weight": lambda weight: weight.double()}, ValueError, "weight", "torch.float64"),
        "trained": ({"bias": lambda bias: bias.requires_grad_()}, ValueError, "bias", "one that requires grad"),
        "eps, no number": ({"eps": None}, TypeError, "eps", "NoneType"),
        "eps": ({"eps": 0.0}, ValueError, "eps", "0.0"),
        "impl": ({"impl": "cuda"}, ValueError, "impl", "'cuda'"),
    }

    def make(self, dtype: torch.dtype, *, n: int, rows: int, columns: int, mean: float = 1.0) -> Call:
        x = mean + torch.randn(n, rows, columns, dtype=dtype)
        weight, bias = 1 + 0.3 * torch.randn(columns, dtype=dtype), torch.randn(columns, dtype=dtype)
        return Call({"x": x}, {"weight": weight, "bias": bias, "eps": 1e-5})

    def plain(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)

    def kept(self, call: Call) -> int:
        x = call.inputs["x"]
        return size_of(x) + 2 * x[..., 0].numel() * torch.float32.itemsize

    def raw(self, call: Call) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
        x, (weight, bias, eps) = call.inputs["x"].flatten(0, 1), call.fixed.values()
        y, mean, rstd = reference.layer_norm_fwd(x, weight, bias, eps)
        return {
            "layer_norm_fwd": (reference.layer_norm_fwd, (x, weight, bias, eps)),
            "layer_norm_bwd": (reference.layer_norm_bwd, (torch.randn_like(y), x, weight, mean, rstd)),
        }


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 1, 3, 7)])
def test_layer_norm_takes_any_number_of_dimensions(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    ones = torch.ones(7, dtype=torch.float64)
    torch.testing.assert_close(layer_norm(x, ones, 0 * ones), F.layer_norm(x, (7,)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("impl", variants("layer_norm"))
@pytest.mark.parametrize(("mean", "of_cotangents"), [(1e4, 0.0), (0.0, 1e4)])
def test_long_rows_keep_their_digits(impl: str, mean: float, of_cotangents: float) -> None:
    """A float32 sum of a million numbers in the lanes of one vector is wrong in its third digit."""
    if impl == "triton":
        pytest.skip("a row is one block of Triton, which has fewer columns")
    columns = 10**6
    call = Call({"x": mean + torch.randn(1, columns)}, {"weight": torch.ones(columns), "bias": torch.zeros(columns)})
    dy = of_cotangents + torch.randn(1, columns)
    (y,), (dx,), _ = evaluate(lambda **given: layer_norm(**given, impl=impl), call, (dy,))
    (truth,), (true_dx,), _ = evaluate(
        lambda x, **frozen: F.layer_norm(x, (columns,), **frozen), call.double(), (dy.double(),)
    )
    bound = 16 * torch.finfo(torch.float32).eps * max(mean, of_cotangents)
    assert (y - truth).abs().max() <= bound and (dx - true_dx).abs().max() <= bound
