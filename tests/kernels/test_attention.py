"""Attention in Triton, forward and backward, against the reference in float64."""

import pytest
import torch
from diffexplain_fast.kernels import attention as kernels
from diffexplain_fast.kernels import attention_tiles as tiles
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffexplain_fast.ops.reference import attention as reference
from tests.kernels.harness import DEVICE, check, guarded_empty, padded

LENGTHS = st.sampled_from([1, 7, 16, 64, 77, 100])


def check_both(
    queries: int, keys: int, columns: int, dtype: torch.dtype, images: int = 1, heads: int = 1, spread: float = 1.0
) -> None:
    """Check forward and backward; of one key only the values, since its scores' gradient is nothing but rounding."""
    q, k, v = (torch.randn(images, rows, heads, columns).to(dtype) for rows in (queries, keys, keys))
    arguments = (spread * q, k, v, columns**-0.5)
    o, lse = check(kernels.attention_fwd, reference.attention_fwd, arguments)
    if keys > 1:
        check(
            kernels.attention_bwd,
            reference.attention_bwd,
            (torch.randn_like(o), *arguments[:3], o, lse, arguments[3]),
            factor=3.0,
        )


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(
    queries=LENGTHS,
    keys=LENGTHS,
    columns=st.sampled_from([8, 16, 40, 64, 80, 160]),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    images=st.sampled_from([1, 2]),
    heads=st.sampled_from([1, 2]),
    seed=st.integers(0, 9),
)
def test_any_shape(
    queries: int, keys: int, columns: int, dtype: torch.dtype, images: int, heads: int, seed: int
) -> None:
    torch.manual_seed(seed)
    check_both(queries, keys, columns, dtype, images, heads)
