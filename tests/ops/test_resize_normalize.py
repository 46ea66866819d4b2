"""The resize against torch's own, its gradient, its determinism, and every size it must refuse."""

import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.overrides import TorchFunctionMode

from diffexplain_fast.engine.memory.counting import live_bytes
from diffexplain_fast.ops._constants import constant
from diffexplain_fast.ops.resize_normalize import MODES, _weights, resize, resize_normalize
from tests.ops.calls import SIDES, Call
from tests.ops.contract import Contract

SIZES = [
    ((37, 53), (64, 20)),
    ((8, 8), (8, 13)),
    ((5, 7), (1, 1)),
    ((1, 1), (4, 3)),
    ((16, 16), (7, 31)),
    ((2, 9), (3, 9)),
]


@pytest.mark.filterwarnings(
    "ignore:Dynamo detected a call to a `functools.lru_cache`"
)  # torch traces into it, which does no harm
class TestResizeNormalize(Contract):
    run = staticmethod(resize_normalize)
    dtypes = ("fp32",)  # torch has no antialiased resize in bfloat16 to compare with
    cases: ClassVar = {
        "5x6-to-3x9": {"n": 2, "old": (5, 6), "size": (3, 9)},
        "bicubic": {"n": 5, "old": (4, 7), "size": (6, 2), "mode": "bicubic"},
    }
    sizes = st.fixed_dictionaries(
        {
            "n": SIDES,
            "old": st.tuples(st.sampled_from([1, 7, 63]), st.sampled_from([1, 8, 13])),
            "size": st.tuples(st.sampled_from([1, 9, 31]), st.sampled_from([2, 5, 64])),
            "mode": st.sampled_from(MODES),
        }
    )
    bad: ClassVar = {
        "no tensor": ({"pixels": [[1.0]]}, TypeError, "pixels", "list"),
        "whole numbers": ({"pixels": lambda pixels: pixels.long()}, ValueError, "pixels", "torch.int64"),
        "no channels": ({"pixels": torch.ones(4, 4)}, ValueError, "pixels", r"\[4, 4\]"),
        "two means": ({"mean": (0.5, 0.5)}, ValueError, "mean", r"\[0.5, 0.5\]"),
        "one image": ({"pixels": lambda pixels: pixels[0, 0]}, ValueError, "pixels", r"\[5, 6\]"),
        "one number": ({"std": 0.5}, TypeError, "std", "float"),
        "no spread": ({"std": (0.5, 0.0, 0.5)}, ValueError, "std", r"\[0.5, 0.0, 0.5\]"),
        "size": ({"size": (0, 1)}, ValueError, "size", r"\(0, 1\)"),
        "mode": ({"mode": "nearest"}, ValueError, "mode", "'nearest'"),
    }

    def make(
        self, dtype: torch.dtype, *, n: int, old: tuple[int, int], size: tuple[int, int], mode: str = "bilinear"
    ) -> Call:
        fixed = {"size": size, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4), "mode": mode}
        return Call({"pixels": torch.rand(n, 3, *old, dtype=dtype)}, fixed)

    def plain(
        self, pixels: Tensor, size: tuple[int, int], mean: Sequence[float], std: Sequence[float], mode: str
    ) -> Tensor:
        centre, spread = (pixels.new_tensor(numbers)[:, None, None] for numbers in (mean, std))
        return (F.interpolate(pixels, size, mode=mode, antialias=True) - centre) / spread

    def kept(self, call: Call) -> int:
        """Return the bytes of the two matrices and of the channels' deviations: for any batch, nothing of the input."""
        old, new = call.inputs["pixels"].shape[-2:], call.fixed["size"]
        return (old[0] * new[0] + old[1] * new[1] + 3) * torch.float32.itemsize


class NoCopyFromTheCPU(TorchFunctionMode):
    """Refuse, as the recording of a CUDA graph does, numbers that come from the CPU to another device."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.device.type != "cpu":
            came = [value.device.type for value in args if isinstance(value, Tensor) and value.ndim > 0]
            listed = function in (torch.tensor, torch.as_tensor, Tensor.new_tensor)
            assert "cpu" not in came and not listed, f"{function} copies from the CPU"
        return made


def test_a_second_call_copies_nothing_to_the_device() -> None:
    def call() -> Tensor:
        pixels = torch.empty(2, 3, 9, 8, device="meta")
        return resize_normalize(pixels, (4, 5), [0.4, 0.5, 0.6], (0.2, 0.3, 0.4))

    constant.cache_clear()
    with pytest.raises(AssertionError, match="copies from the CPU"), NoCopyFromTheCPU():
        call()
    call()  # as the warm-up of a recording
    with NoCopyFromTheCPU():
        assert call().shape == (2, 3, 4, 5)


def noise(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("old", "new"), SIZES)
def test_resize_equals_torchs_antialiased_resize(old: tuple[int, int], new: tuple[int, int], mode: str) -> None:
    x = noise(2, 3, *old)
    expected = F.interpolate(x, new, mode=mode, antialias=True)
    assert torch.allclose(resize(x, new, mode), expected, rtol=0, atol=1e-12)
    single = resize(x.float(), new, mode)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("mode", MODES)
def test_the_gradient_of_resize_is_exact(mode: str) -> None:
    x = noise(1, 2, 5, 6).requires_grad_()
    assert gradcheck(lambda x: resize(x, (3, 9), mode), x)
    cotangent = noise(1, 2, 3, 9)
    own, theirs = (
        torch.autograd.grad(y, x, cotangent)[0]
        for y in (resize(x, (3, 9), mode), F.interpolate(x, (3, 9), mode=mode, antialias=True))
    )
    assert torch.allclose(own, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_a_flat_image_stays_flat(mode: str) -> None:
    assert torch.allclose(resize(torch.full((1, 3, 33, 40), 0.7), (12, 71), mode), torch.tensor(0.7), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_one_column_keeps_its_different_rows(mode: str) -> None:
    """On the CPU torch 2.13 fills a result of one column with its first row; a result of one row is right."""
    x = noise(2, 3, 7, 1)
    row = F.interpolate(x.transpose(2, 3).contiguous(), (1, 9), mode=mode, antialias=True)
    assert torch.allclose(resize(x, (9, 1), mode), row.transpose(2, 3), rtol=0, atol=1e-12)


def test_the_same_size_returns_the_same_image() -> None:
    x = noise(1, 3, 4, 5)
    assert resize(x, (4, 5)) is x


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_loses_no_more_than_its_rounding(dtype: torch.dtype) -> None:
    x = noise(1, 3, 40, 40, dtype=dtype)
    truth = F.interpolate(x.double(), (17, 23), mode="bilinear", antialias=True)
    got = resize(x, (17, 23))
    assert got.dtype == dtype
    assert (got.double() - truth).abs().max() <= torch.finfo(dtype).eps


def test_every_layout_and_rank_gives_the_same_image() -> None:
    x = noise(2, 3, 9, 8)
    expected = resize(x, (4, 5))
    assert torch.allclose(resize(x.to(memory_format=torch.channels_last), (4, 5)), expected)
    assert torch.allclose(resize(x.transpose(2, 3).contiguous().transpose(2, 3), (4, 5)), expected)
    assert torch.allclose(resize(x[0, 0], (4, 5)), expected[0, 0], rtol=0, atol=1e-14)


def test_weights_created_in_inference_mode_serve_training() -> None:
    with torch.inference_mode():
        resize(noise(1, 3, 11, 19), (6, 29))
    x = noise(1, 3, 11, 19).requires_grad_()
    resize(x, (6, 29)).sum().backward()
    assert x.grad is not None


def test_resize_is_deterministic_and_draws_no_random_numbers() -> None:
    x, before = noise(1, 3, 20, 20, dtype=torch.float32), torch.get_rng_state()
    assert torch.equal(resize(x, (7, 9)), resize(x, (7, 9)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("x", "size", "mode", "error", "message"),
    [
        ([1.0], (2, 2), "bilinear", TypeError, "pixels: wanted a tensor"),
        (torch.ones(4), (2, 2), "bilinear", ValueError, r"pixels: wanted shape .* got \[4\]"),
        (torch.ones(1, 3, 0, 4), (2, 2), "bilinear", ValueError, r"got \[1, 3, 0, 4\]"),
        (torch.ones(4, 4, dtype=torch.uint8), (2, 2), "bilinear", ValueError, "got torch.uint8"),
        (torch.ones(4, 4), 2, "bilinear", TypeError, "size: wanted a pair"),
        (torch.ones(4, 4), (2.0, 2), "bilinear", TypeError, "size: wanted a pair"),
        (torch.ones(4, 4), (2, 0), "bilinear", ValueError, r"at least 1, got \(2, 0\)"),
        (torch.ones(4, 4), (2, 2), "nearest", ValueError, "mode: wanted bilinear or bicubic, got 'nearest'"),
    ],
)
def test_bad_arguments_of_resize_are_named(
    x: Tensor, size: tuple, mode: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        resize(x, size, mode)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    pixels = torch.rand(2, 3, 31, 31, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(resize(pixels, (7, 5)), resize(pixels.float(), (7, 5)).to(dtype))


@pytest.mark.parametrize("size", [(9, 9), (3, 4)])
def test_autocast_does_not_change_resize(size: tuple[int, int]) -> None:
    pixels = torch.rand(2, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = resize(pixels, size)
    assert torch.equal(inside, resize(pixels, size))


LINES = [((1, 4096), (1, 224)), ((4096, 1), (224, 1)), ((1, 30000), (1, 500)), ((5000, 2), (1, 3)), ((2, 3), (7000, 1))]
LINES += [((3, 900), (2, 8000)), ((1, 9000), (1, 8999))]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("old", "new"), LINES, ids=str)
def test_long_lines_equal_torchs_antialiased_resize(old: tuple[int, int], new: tuple[int, int], mode: str) -> None:
    """Blocks give the result of a large matrix; torch's result for one column is wrong, see above."""
    x = noise(2, 1, *old).requires_grad_()
    y = resize(x, new, mode)
    if new[1] == 1:
        lying = x.transpose(2, 3).contiguous()
        expected = F.interpolate(lying, new[::-1], mode=mode, antialias=True).transpose(2, 3)
    else:
        expected = F.interpolate(x, new, mode=mode, antialias=True)
    assert torch.allclose(y, expected, rtol=0, atol=1e-12)
    cotangent = noise(*y.shape)
    got, wanted = (torch.autograd.grad(made, x, cotangent)[0] for made in (y, expected))
    assert torch.allclose(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("old", "new"), [*LINES, ((1, 50000), (1, 60000)), ((50000, 1), (40000, 3)), ((1, 4000), (4000, 1))], ids=str
)
def test_memory_is_proportional_to_the_pictures(old: tuple[int, int], new: tuple[int, int], mode: str) -> None:
    """A dense matrix for 50,000 pixels would have 20 GB; a short line may use one of 16 MiB, or 32 MiB in float64."""
    _weights.cache_clear()
    x = noise(1, 1, *old, dtype=torch.float32)
    with live_bytes() as live:
        resize(x, new, mode)
    pixels = max(old[0] * old[1], new[0] * new[1])
    assert live.peak < 6 * 2**25 + 8000 * pixels


def test_blocks_give_what_one_matrix_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(1, 3, 61, 47)
    whole = [resize(x, size, mode) for size in ((20, 90), (150, 7)) for mode in MODES]
    _weights.cache_clear()
    module = sys.modules[_weights.__module__]  # the package has a function of that name
    monkeypatch.setattr(module, "_DENSE", 16)
    monkeypatch.setattr(module, "_BAND", 4)
    assert len(_weights(61, 20, "bicubic", torch.float64, x.device)) > 3
    parts = [resize(x, size, mode) for size in ((20, 90), (150, 7)) for mode in MODES]
    _weights.cache_clear()
    assert all(torch.allclose(*pair, rtol=0, atol=1e-13) for pair in zip(whole, parts, strict=True))
