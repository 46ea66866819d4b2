"""Interleaving four phases in Triton: a permutation, equal to the reference in every bit."""

import pytest
import torch
import torch.nn.functional as F
from diffexplain_fast.kernels import configs
from diffexplain_fast.kernels import interleave as kernels
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffexplain_fast.ops.reference import interleave as reference
from tests.kernels.harness import channels_last, check, guarded_empty, padded


@settings(max_examples=24, deadline=None, derandomize=True, database=None)
@given(
    n=st.integers(1, 3),
    channels=st.sampled_from([1, 2, 3, 17, 64, 67]),
    height=st.sampled_from([1, 2, 5]),
    width=st.sampled_from([1, 3, 8]),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    config=st.integers(0, 1),
)
def test_interleave_kernels_equal_the_reference_for_every_shape(
    n: int, channels: int, height: int, width: int, dtype: torch.dtype, config: int
) -> None:
    parts = channels_last(n, 4 * channels, height, width, dtype=dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(configs.CONFIGS, "interleave", configs.CONFIGS["interleave"][config:][:1])
        (y,) = check(kernels.interleave_fwd, reference.interleave_fwd, (parts,))
        check(kernels.interleave_bwd, reference.interleave_bwd, (y,))


def _inner_fwd(parts: Tensor) -> Tensor:
    return reference.interleave_fwd(parts)[:, :, 1:-1, 1:-1].contiguous(memory_format=torch.channels_last)


def _inner_bwd(dy: Tensor) -> Tensor:
    return reference.interleave_bwd(F.pad(dy, (1, 1, 1, 1)))


@settings(max_examples=16, deadline=None, derandomize=True, database=None)
@given(
    n=st.integers(1, 3),
    channels=st.sampled_from([1, 2, 3, 17, 64, 67]),
    height=st.sampled_from([2, 3, 5]),
    width=st.sampled_from([2, 3, 8]),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    config=st.integers(0, 1),
)
def test_the_inner_pixels_are_those_of_the_reference_with_its_outermost_cut_off(
    n: int, channels: int, height: int, width: int, dtype: torch.dtype, config: int
) -> None:
    parts = channels_last(n, 4 * channels, height, width, dtype=dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(configs.CONFIGS, "interleave", configs.CONFIGS["interleave"][config:][:1])
        (y,) = check(kernels.interleave_inner_fwd, _inner_fwd, (parts,))
        check(kernels.interleave_inner_bwd, _inner_bwd, (y,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_interleave_copies_every_bit_and_its_adjoint_copies_it_back(dtype: torch.dtype) -> None:
    parts = channels_last(2, 12, 3, 5, dtype=dtype)
    with guarded_empty():
        y = kernels.interleave_fwd(padded(parts))
        back = kernels.interleave_bwd(y)
    assert torch.equal(y.cpu(), reference.interleave_fwd(parts)) and torch.equal(back.cpu(), parts)
