"""Attention in Triton, forward and backward, against the reference in float64."""

import pytest
import torch
from diffexplain_fast.kernels import attention as kernels
from diffexplain_fast.kernels import attention_tiles as tiles
from diffexplain_fast.kernels import configs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffexplain_fast.ops.attention import reads_output
from diffexplain_fast.ops.reference import attention as reference
from tests.kernels.harness import DEVICE, check, padded

LENGTHS = st.sampled_from([1, 7, 16, 64, 77, 100])


def check_tensors(q: Tensor, k: Tensor, v: Tensor, scale: float) -> None:
    """Check forward and backward; with one key only the values, because its scores' gradient is only rounding."""
    o, lse = check(kernels.attention_fwd, reference.attention_fwd, (q, k, v, scale))
    if k.shape[1] > 1:
        do = torch.randn_like(o)
        check(kernels.attention_bwd, reference.attention_bwd, (do, q, k, v, o, lse, scale), factor=3.0)


def check_both(queries: int, keys: int, columns: int, dtype: torch.dtype, images: int = 1, heads: int = 1) -> None:
    """Check contiguous tensors with the usual scale."""
    q, k, v = (torch.randn(images, rows, heads, columns).to(dtype) for rows in (queries, keys, keys))
    check_tensors(q, k, v, columns**-0.5)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["fp32", "fp16"])
@pytest.mark.parametrize("columns", [8, 16, 40, 64, 80, 160])
def test_77_text_keys_are_within_budget(columns: int, dtype: torch.dtype) -> None:
    check_both(35, 77, columns, dtype)


@pytest.mark.parametrize("keys", [128, 154, 300])
def test_several_blocks_of_keys_are_within_budget(keys: int) -> None:
    check_both(33, keys, 40, torch.float16)


@pytest.mark.parametrize("keys", [77, 130])
def test_attention_kernels_are_within_budget_in_bfloat16(keys: int) -> None:
    check_both(37, keys, 40, torch.bfloat16)


@pytest.mark.parametrize("keys", [19, 130])
def test_views_of_one_projection_give_the_bits_of_contiguous_tensors(keys: int) -> None:
    """Memory between the heads of a view belongs to other views: NaN there changes no bit."""
    packed = torch.full((2, keys, 5, 2, 40), float("nan"), dtype=torch.float16, device=DEVICE)
    q, k, v = (packed[:, :, i] for i in (0, 2, 4))
    for part in (q, k, v):
        part.copy_(torch.randn(part.shape))
    do = torch.randn(q.shape, device=DEVICE).half()
    made = []
    for part in ((q, k, v), tuple(x.contiguous() for x in (q, k, v))):
        o, lse = kernels.attention_fwd(*part, 0.2)
        made.append((o, lse, *kernels.attention_bwd(do, *part, o, lse, 0.2)))
    assert all(map(torch.equal, *made)) and all(x.is_contiguous() for x in made[0])


def test_heads_first_and_values_in_other_strides_are_within_budget() -> None:
    q, k = (torch.randn(2, 3, rows, 24).half().transpose(1, 2) for rows in (21, 13))
    check_tensors(q, k, torch.randn(2, 13, 3, 24).half(), 0.3)


def test_strides_of_the_outputs_gradient_change_no_bit() -> None:
    q, k, v, do = (padded(torch.randn(1, 20, 2, 16).half()) for _ in range(4))
    o, lse = kernels.attention_fwd(q, k, v, 0.25)
    strided = do.transpose(1, 2).contiguous().transpose(1, 2)
    expected = kernels.attention_bwd(do, q, k, v, o, lse, 0.25)
    assert all(map(torch.equal, kernels.attention_bwd(strided, q, k, v, o, lse, 0.25), expected))


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["high", "low"])
def test_scores_beyond_the_range_of_exp_stay_finite(sign: float) -> None:
    """Far below 0, a key that is only padding would outweigh all others."""
    q, k, v = (torch.randn(1, rows, 1, 16) for rows in (18, 77, 77))
    q, k = q / 8 + 4 * sign, k / 8 + 4
    check_tensors(q, k, v, 1.0)
    o, lse = check(kernels.attention_fwd, reference.attention_fwd, (q.half(), k.half(), v.half(), 1.0))
    half = [padded(x.half()) for x in (torch.randn_like(o), q, k, v, o)]
    assert all(grad.isfinite().all() for grad in kernels.attention_bwd(*half, padded(lse), 1.0))


@pytest.mark.parametrize("keys", [77, 130])
def test_equal_calls_have_equal_bits(keys: int) -> None:
    q, k, v, do = (padded(torch.randn(1, rows, 2, 40).half()) for rows in (100, keys, keys, 100))
    o, lse = kernels.attention_fwd(q, k, v, 0.2)
    first = kernels.attention_bwd(do, q, k, v, o, lse, 0.2)
    assert all(map(torch.equal, first, kernels.attention_bwd(do, q, k, v, o, lse, 0.2)))


@pytest.mark.parametrize("programs", [1, 3])
@pytest.mark.parametrize("keys", [77, 130])
def test_queries_that_programs_share_are_within_budget(
    monkeypatch: pytest.MonkeyPatch, programs: int, keys: int
) -> None:
    """The cases have one partial sum per block of queries, no partial sums, and sums of several blocks."""
    monkeypatch.setattr(kernels, "_PROGRAMS", programs)
    check_both(161, keys, 16, torch.float16)


@pytest.mark.parametrize("output", [True, False], ids=["output", "no output"])
@pytest.mark.parametrize(("keys", "columns"), [(77, 40), (77, 80), (64, 80), (5, 80), (77, 160)])
def test_images_that_are_not_asked_have_zeros_and_the_others_what_they_had(
    keys: int, columns: int, output: bool
) -> None:
    """The kernels know the sum of a softmax's backward without the output, and no bit is another for fewer images."""
    q, k, v = (torch.randn(3, rows, 2, columns).half() for rows in (35, keys, keys))
    o, lse = check(kernels.attention_fwd, reference.attention_fwd, (q, k, v, 0.2))
    given = (torch.randn_like(o), q, k, v, o if output or columns > 96 else None, lse, 0.2)
    for first in (0, 1, 2):
        check(kernels.attention_text_bwd, reference.attention_text_bwd, (*given, first), factor=3.0)
    whole, part = (kernels.attention_text_bwd(*map(_placed, given), first) for first in (0, 2))
    assert all(torch.equal(grad[2:], wanted[2:]) for grad, wanted in zip(part, whole, strict=True))
    assert torch.equal(part[0], whole[0]) and not any(grad[:2].any() for grad in part[1:])


def _placed(value: Tensor | float | None) -> Tensor | float | None:
    return padded(value) if isinstance(value, Tensor) else value


@pytest.mark.parametrize("programs", [1, 6, 100])
@pytest.mark.parametrize("columns", [40, 80])
def test_queries_of_asked_images_that_programs_share_are_within_budget(
    monkeypatch: pytest.MonkeyPatch, programs: int, columns: int
) -> None:
    monkeypatch.setattr(kernels, "_PROGRAMS", programs)
    q, k, v, do = (torch.randn(2, rows, 1, columns).half() for rows in (161, 77, 77, 161))
    _, lse = reference.attention_fwd(q, k, v, 0.2)
    check(kernels.attention_text_bwd, reference.attention_text_bwd, (do, q, k, v, None, lse, 0.2, 1), factor=3.0)


@pytest.mark.parametrize("columns", [16, 40, 64, 80, 96])
@pytest.mark.parametrize("keys", [1, 80, 81])
def test_the_kernels_can_do_without_the_output_where_the_op_says_so(keys: int, columns: int) -> None:
    q, k = torch.zeros(1, 4, 1, columns).half(), torch.zeros(1, keys, 1, columns).half()
    call = kernels._Call(q, k, k, 1.0)
    if not reads_output(q, k, "triton"):
        assert call.fits("short") or call.fits("text_dq")
    assert reads_output(q, k, "triton") == (keys > 80) and reads_output(q.float(), k.float(), "triton")


def test_one_key_has_no_gradient() -> None:
    q, k, v, do = (padded(torch.randn(1, rows, 1, 16)) for rows in (5, 1, 1, 5))
    o, lse = kernels.attention_fwd(q, k, v, 0.25)
    dq, dk, dv = kernels.attention_bwd(do, q, k, v, o, lse, 0.25)
    torch.testing.assert_close(dv, do.sum(1, keepdim=True))
    assert max(dq.abs().max(), dk.abs().max()) < 1e-5


def test_heads_too_wide_for_the_table_are_refused() -> None:
    x = torch.zeros(1, 2, 1, 168, device=DEVICE)
    with pytest.raises(ValueError, match="at most 160 columns per head, got 168"):
        kernels.attention_fwd(x, x, x, 1.0)


def test_every_width_has_an_entry_for_every_kernel() -> None:
    for kernel in ("fwd", "dq", "dk_dv"):
        for columns in kernels._WIDTHS:
            assert {f"attention_{kernel}_{columns}{dtype}" for dtype in ("", "_fp32")} <= configs.CONFIGS.keys()


def test_main_and_tail_have_the_least_padding() -> None:
    sizes = {1: 16, 8: 16, 16: 16, 24: 32, 40: 48, 48: 48, 56: 64, 64: 64, 77: 80, 80: 80, 100: 128, 154: 160, 160: 160}
    for size, wanted in sizes.items():
        assert tiles.parted(size) == wanted == tiles.main_part(size) + tiles.tail_part(size)
