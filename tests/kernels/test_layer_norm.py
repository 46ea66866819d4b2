"""LayerNorm in Triton, forward and backward, against the reference in float64."""

import pytest
import torch
from diffexplain_fast.kernels import layer_norm as kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffexplain_fast.ops.reference import layer_norm as reference
from tests.kernels.harness import check

_EPS = 1e-5


def _sum(dy: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, more: Tensor) -> Tensor:
    return reference.layer_norm_bwd(dy, x, weight, mean, rstd) + more


def _copied(x: Tensor, weight: Tensor, bias: Tensor, eps: float, offset: Tensor) -> tuple[Tensor, ...]:
    return *reference.layer_norm_fwd(x, weight, bias, eps), x + offset.to(x.dtype)


def check_both(rows: int, columns: int, dtype: torch.dtype, offset: float = 1.0) -> None:
    """Check forward and backward."""
    x, weight, bias = (
        (torch.randn(rows, columns) + offset).to(dtype),
        torch.randn(columns).to(dtype),
        torch.randn(columns),
    )
    _, mean, rstd = check(kernels.layer_norm_fwd, reference.layer_norm_fwd, (x, weight, bias, _EPS))
    offset = torch.randn(columns).to(dtype)
    check(kernels.layer_norm_fwd_copy, _copied, (x, weight, bias, _EPS, offset))
    dy = torch.randn(rows, columns).to(dtype)
    check(kernels.layer_norm_bwd, reference.layer_norm_bwd, (dy, x, weight, mean, rstd), factor=3.0)
    check(
        kernels.layer_norm_bwd_add, _sum, (dy, x, weight, mean, rstd, torch.randn(rows, columns).to(dtype)), factor=3.0
    )


@settings(max_examples=24, deadline=None, derandomize=True, database=None)
@given(
    rows=st.sampled_from([1, 2, 3, 7, 13, 64, 77]),
    columns=st.one_of(st.integers(1, 70), st.sampled_from([127, 128, 129, 320, 521, 1280])),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    seed=st.integers(0, 9),
)
def test_layer_norm_kernels_are_within_budget_for_every_shape(
    rows: int, columns: int, dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    check_both(rows, columns, dtype)


def test_layer_norm_kernels_are_within_budget_in_bfloat16() -> None:
    check_both(5, 320, torch.bfloat16)


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    check_both(9, 96, torch.float32, offset=4096.0)


@pytest.mark.parametrize("entry", ["layer_norm_fwd", "layer_norm_bwd", "layer_norm_bwd_wide"])
@pytest.mark.parametrize("columns", [1, 2, 3, 40, 320, 640, 768, 1280, 1281, 4096])
def test_the_blocks_of_layer_norm_hold_a_row(columns: int, entry: str) -> None:
    tile = kernels.blocks(columns, entry)
    main, rest = tile["BLOCK_D"], tile["BLOCK_REST"]
    assert main <= columns <= main + rest and all(size & (size - 1) == 0 for size in tile.values())
    if columns in (320, 640, 768, 1280):
        assert main + rest == columns
