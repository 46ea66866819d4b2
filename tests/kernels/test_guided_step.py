"""Guidance and the sampler's step in Triton, and their adjoint, against the reference in float64."""

import torch
from diffexplain_fast.kernels import guided_step as kernels
from hypothesis import given, settings
from hypothesis import strategies as st

from diffexplain_fast.ops.reference import guided_step as reference
from tests.kernels.harness import check, padded

_SHAPE = st.tuples(st.integers(1, 3), st.sampled_from([1, 4]), st.sampled_from([1, 7, 16]), st.sampled_from([1, 5, 31]))
_OUTPUT = st.sampled_from([torch.float32, torch.float16, torch.bfloat16])
_FLAG = st.booleans()
_SETTINGS = settings(max_examples=24, deadline=None, derandomize=True, database=None)


def coefficients(dtype: torch.dtype) -> torch.Tensor:
    """Return eight numbers of the sizes that a sampler has."""
    return torch.cat([torch.tensor([7.5]), torch.randn(7)]).to(dtype)


@_SETTINGS
@given(
    shape=_SHAPE, dtype=_OUTPUT, guided=st.booleans(), before=st.booleans(), noise=st.booleans(), seed=st.integers(0, 9)
)
def test_the_step_is_within_budget_for_every_shape_and_flag(
    shape: tuple[int, ...], dtype: torch.dtype, guided: bool, before: bool, noise: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    sample, output = torch.randn(shape), torch.randn((1 + guided) * shape[0], *shape[1:]).to(dtype)
    given = (torch.randn(shape) if before else None, torch.randn(shape) if noise else None)
    values = (sample, output, *given, coefficients(torch.float32))
    check(kernels.guided_step_fwd, reference.guided_step_fwd, values)


@_SETTINGS
@given(shape=_SHAPE, dtype=_OUTPUT, guided=_FLAG, ddata=_FLAG, seed=st.integers(0, 9))
def test_the_adjoint_is_within_budget_for_every_shape_and_flag(
    shape: tuple[int, ...], dtype: torch.dtype, guided: bool, ddata: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    values = (torch.randn(shape), torch.randn(shape) if ddata else None, coefficients(torch.float32), guided)
    check(kernels.guided_step_bwd, reference.guided_step_bwd, (*values, torch.empty(0, dtype=dtype)), factor=3.0)


def test_a_float64_step_is_computed_in_float64() -> None:
    sample, output = torch.randn(2, 4, 3, 5, dtype=torch.float64), torch.randn(4, 4, 3, 5)
    values = (sample, output, sample, sample, coefficients(torch.float64))
    ours = kernels.guided_step_fwd(*map(padded, values))
    for got, wanted in zip(ours, reference.guided_step_fwd(*values), strict=True):
        torch.testing.assert_close(got.cpu(), wanted, rtol=1e-14, atol=1e-14)
