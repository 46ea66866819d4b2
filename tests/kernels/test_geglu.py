"""GEGLU in Triton, forward and backward, against the reference in float64."""

import pytest
import torch
import torch.nn.functional as F
from diffexplain_fast.kernels import configs
from diffexplain_fast.kernels import geglu as kernels
from hypothesis import given, settings
from hypothesis import strategies as st

from diffexplain_fast.ops.reference import geglu as reference
from tests.kernels.harness import check, padded


def check_both(rows: int, columns: int, dtype: torch.dtype, scale: float = 2.0) -> None:
    """Check forward and backward."""
    h, dy = (scale * torch.randn(rows, 2 * columns)).to(dtype), torch.randn(rows, columns).to(dtype)
    check(kernels.geglu_fwd, reference.geglu_fwd, (h,))
    check(kernels.geglu_bwd, reference.geglu_bwd, (dy, h), factor=3.0)


@settings(max_examples=24, deadline=None, derandomize=True, database=None)
@given(
    rows=st.sampled_from([1, 2, 3, 7, 16, 17]),
    columns=st.one_of(st.integers(1, 70), st.sampled_from([127, 256, 257, 521])),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    seed=st.integers(0, 9),
)
def test_geglu_kernels_are_within_budget_for_every_shape(
    rows: int, columns: int, dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    check_both(rows, columns, dtype)


def test_geglu_kernels_are_within_budget_in_bfloat16() -> None:
    check_both(5, 67, torch.bfloat16)


@pytest.mark.parametrize("config", range(len(configs.CONFIGS["geglu"])))
def test_every_configuration_of_geglu_is_within_budget(monkeypatch: pytest.MonkeyPatch, config: int) -> None:
    monkeypatch.setitem(configs.CONFIGS, "geglu", configs.CONFIGS["geglu"][config:][:1])
    check_both(19, 300, torch.float32)


def test_gates_that_saturate_are_within_budget() -> None:
    check_both(4, 33, torch.float32, scale=30.0)


def test_geglu_computes_the_exact_gelu_not_the_tanh_form() -> None:
    """The tanh form is another function, which differs by up to 5e-4."""
    gate = torch.linspace(-4, 4, 65)
    y = kernels.geglu_fwd(padded(torch.cat([torch.ones_like(gate), gate])[None]))[0].cpu()
    torch.testing.assert_close(y, F.gelu(gate))
    assert (y - F.gelu(gate, approximate="tanh")).abs().max() > 1e-4
