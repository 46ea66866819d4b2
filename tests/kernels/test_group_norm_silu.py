"""GroupNorm and SiLU in Triton, forward and backward, against the reference in float64."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffexplain_fast.kernels import configs
from diffexplain_fast.kernels import group_norm_silu as kernels
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffexplain_fast.ops.reference import group_norm_silu as reference
from tests.kernels.harness import channels_last, check, padded

_EPS = 1e-5


@pytest.fixture(scope="module", autouse=True, params=[3, 2, 1], ids=["three launches", "two", "one"])
def launches(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run every test with the kernels for very large images, for large ones, and for small ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "_WHOLE", 2**30 if request.param == 1 else 0)
        patch.setattr(kernels, "_FOLDED", 2**30 if request.param == 2 else 0)
        patch.setitem(configs.CONFIGS, "group_norm_silu_whole", [configs.Config({"BLOCK_E": 256}, 4)])
        yield


def inputs(
    n: int, c1: int, c2: int, height: int, width: int, dtype: torch.dtype, *, shift: bool, offset: float = 1.0
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor]:
    """Return x, skip, shift, weight and bias."""
    x = (channels_last(n, c1, height, width, dtype=dtype) + offset).to(dtype)
    skip = (2 * channels_last(n, c2, height, width, dtype=dtype) + offset).to(dtype) if c2 else None
    moved = torch.randn(n, c1 + c2).to(dtype) if shift else None
    return x, skip, moved, torch.randn(c1 + c2).to(dtype), torch.randn(c1 + c2)


def _sum(*arguments: Any) -> tuple[Tensor, Tensor]:
    *backward, more, beside = arguments
    dx, dskip = reference.group_norm_silu_bwd(*backward)
    return dx + more if beside is None else dx + more + beside, dskip


def _copied(x: Tensor, shift: Tensor | None, weight: Tensor, bias: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    *options, offset = rest
    moved = x if shift is None else x + shift.to(x.dtype)[:, :, None, None]
    copy = (moved + offset.to(x.dtype)[:, None, None]).contiguous(memory_format=torch.channels_last)
    return *reference.group_norm_silu_fwd(x, None, shift, weight, bias, *options), copy


def _again(
    x: Tensor, skip: Tensor | None, shift: Tensor | None, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor,
    *rest: Any
) -> tuple[Tensor, Tensor]:  # fmt: skip
    *options, offset = rest
    if offset is None:
        return reference.group_norm_silu_fwd(x, skip, shift, weight, bias, *options)[0], x.new_empty(0)
    y, *_, copy = _copied(x, shift, weight, bias, *options, offset)
    return y, copy


def check_both(values: tuple[Any, ...], groups: int, silu: bool) -> None:
    """Check forward and backward."""
    # The elements of a group share the roundings of its mean and rstd, which average out only over many groups.
    factor = 2.0 if len(values[0]) * groups >= 8 else 3.0
    options = (groups, _EPS, silu)
    y, mean, rstd = check(
        kernels.group_norm_silu_fwd, reference.group_norm_silu_fwd, (*values, *options), factor=factor
    )
    known = (*values, mean, rstd, *options)
    check(kernels.group_norm_silu_again, _again, (*known, None), factor=factor)
    dy = channels_last(*y.shape, dtype=y.dtype)
    backward = (dy, *values, mean, rstd, groups, silu)
    check(kernels.group_norm_silu_bwd, reference.group_norm_silu_bwd, backward, factor=3.0)
    if values[1] is None:
        offset = torch.randn(len(values[3])).to(y.dtype)
        check(kernels.group_norm_silu_fwd_copy, _copied, (values[0], *values[2:], *options, offset), factor=factor)
        check(kernels.group_norm_silu_again, _again, (*known, offset), factor=factor)
    more, beside = (channels_last(*values[0].shape, dtype=y.dtype) for _ in range(2))
    check(kernels.group_norm_silu_bwd_add, _sum, (*backward, more, None), factor=3.0)
    check(kernels.group_norm_silu_bwd_add, _sum, (*backward, more, beside), factor=3.0)


@settings(max_examples=16, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_any_shape(data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([1, 2, 3, 5, 32]), "groups")
    per_group = data.draw(st.sampled_from([1, 2, 3, 7, 10, 17, 80]).filter(lambda d: d * groups <= 100), "C / G")
    channels = groups * per_group
    c2 = data.draw(st.integers(0, channels - 1), "C2")
    size = st.sampled_from([1, 2, 3, 5, 8, 11])
    n, height, width = data.draw(st.integers(1, 3), "N"), data.draw(size, "H"), data.draw(size, "W")
    # With two or three elements the gradient is almost 0: the rest is rounding, also in plain PyTorch.
    assume(per_group * height * width not in (2, 3))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float16]), "dtype")
    shift, silu = data.draw(st.booleans(), "shift"), data.draw(st.booleans(), "silu")
    torch.manual_seed(data.draw(st.integers(0, 9), "seed"))
    check_both(inputs(n, channels - c2, c2, height, width, dtype, shift=shift), groups, silu)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_groups_with_channels_of_x_and_skip_are_within_budget(dtype: torch.dtype) -> None:
    check_both(inputs(2, 50, 40, 9, 9, dtype, shift=True), 3, True)


@pytest.mark.parametrize("c2", [0, 40])
def test_a_shift_of_one_row_is_that_of_every_image(c2: int) -> None:
    x, skip, shift, weight, bias = inputs(3, 50, c2, 5, 5, torch.float32, shift=True)
    assert shift is not None
    check_both((x, skip, shift[:1], weight, bias), 5, True)


def test_groups_of_one_element_are_within_budget() -> None:
    check_both(inputs(1, 1, 0, 1, 1, torch.float32, shift=False), 1, True)
    check_both(inputs(2, 32, 0, 1, 1, torch.float32, shift=True), 32, True)


def test_chunks_of_several_tiles_are_within_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few programs make long chunks, the last of which ends with a tile that has no pixel."""
    monkeypatch.setattr(kernels, "_PROGRAMS", 2)
    monkeypatch.setitem(configs.CONFIGS, "group_norm_silu_partial", [configs.Config({"BLOCK_P": 8, "BLOCK_C": 16}, 4)])
    check_both(inputs(1, 6, 4, 5, 7, torch.float32, shift=True), 2, True)


@pytest.mark.parametrize("group", [1, 3, 4, 8, *(pytest.param(n, marks=pytest.mark.slow) for n in (12, 20))])
def test_groups_that_meet_several_blocks_of_channels_are_within_budget(
    monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    """Their sums are in several parts, of chunks whose number is no power of two."""
    monkeypatch.setitem(configs.CONFIGS, "group_norm_silu_partial", [configs.Config({"BLOCK_P": 8, "BLOCK_C": 8}, 4)])
    check_both(inputs(2, 5 * group - 1, 1, 7, 7, torch.float32, shift=True), 5, True)


def test_runs_meet_as_many_pieces_as_counted() -> None:
    for size, length in itertools.product(range(1, 25), repeat=2):
        runs = [range(start, start + length) for start in range(0, size * length, length)]
        assert kernels._met(size, length) == max(len({place // size for place in run}) for run in runs)


@pytest.mark.parametrize("config", range(3))
def test_every_configuration_of_group_norm_is_within_budget(monkeypatch: pytest.MonkeyPatch, config: int) -> None:
    for name in ("group_norm_silu_fwd", "group_norm_silu_bwd"):
        monkeypatch.setitem(configs.CONFIGS, f"{name}_folded", configs.CONFIGS[name][config:][:1])
        monkeypatch.setitem(configs.CONFIGS, name, configs.CONFIGS[name][config:][:1])
    check_both(inputs(1, 70, 60, 5, 7, torch.float16, shift=True), 26, True)


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    """E[x²] - E[x]² would lose every digit of the variance."""
    check_both(inputs(2, 24, 0, 9, 8, torch.float32, shift=False, offset=4096.0), 4, True)


def test_activations_that_saturate_are_within_budget() -> None:
    x, skip, shift, weight, bias = inputs(1, 8, 0, 4, 4, torch.float32, shift=False)
    check_both((x, skip, shift, 200 * weight, bias), 2, True)


def test_equal_calls_have_equal_bits() -> None:
    values = (*map(padded, inputs(2, 20, 10, 9, 9, torch.float32, shift=True)), 3, _EPS, True)
    first, second = kernels.group_norm_silu_fwd(*values), kernels.group_norm_silu_fwd(*values)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
