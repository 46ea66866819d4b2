"""Launches traced on the meta device: as many as a GPU would have, and nothing for what computes nothing."""

import pytest
import torch

from diffexplain_fast.engine.lean.reading import Norm
from diffexplain_fast.ops.attention import attention
from diffexplain_fast.ops.group_norm_silu import group_norm_silu
from diffexplain_fast.ops.raw import RawOps
from diffexplain_fast.prediction.compiled import FusedLaunches
from diffexplain_fast.prediction.launches import by_family, trace

pytest.importorskip("triton", reason="triton is not installed; its launchers say how often they launch")


DEVICE = torch.device("meta")


def meta(*shape: int, grad: bool = False) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.bfloat16, device="meta").requires_grad_(grad)


def test_views_and_memory_without_contents_launch_nothing() -> None:
    x = meta(2, 8, 4, 4)
    assert trace(lambda: (x.flatten(1)[:, 3:].t(), torch.empty_like(x), x.detach())) == []


def test_torch_operations_have_their_family_flop_and_bytes() -> None:
    x, weight, matrix = meta(2, 8, 16, 16), meta(4, 8, 3, 3), meta(32, 16)
    convolution, product, addition = trace(lambda: (torch.conv2d(x, weight, padding=1), matrix @ meta(16, 8), x + x))
    assert (convolution.family, convolution.rows, convolution.side) == ("convolution", 2, 16)
    assert convolution.flop == 2 * 2 * 4 * 16 * 16 * 8 * 9
    assert (product.family, product.flop, product.bytes) == (
        "product",
        2 * 32 * 16 * 8,
        2 * (32 * 16 + 16 * 8 + 32 * 8),
    )
    assert (addition.family, addition.flop, addition.bytes) == ("pointwise", 0, 2 * 3 * x.numel())


def test_what_is_written_over_is_not_read() -> None:
    """A product added to a total reads the total and writes it: two times its bytes, not three."""
    x, weight, total = meta(64, 16), meta(16, 32), meta(64, 32)

    def written() -> None:
        torch.addmm(total, x, weight, out=total)
        total.copy_(meta(64, 32))
        total.add_(total)
        total.zero_()
        torch._foreach_add_([total], [meta(64, 32)])
        torch._foreach_copy_([total], [meta(64, 32)])

    moved = [launch.bytes - x.nbytes - weight.nbytes if launch.flop else launch.bytes for launch in trace(written)]
    assert moved == [times * total.nbytes for times in (2, 2, 3, 1, 3, 2)]


@pytest.mark.parametrize(
    ("channels", "side", "parts"),
    [(64, 128, ["partial_", "combine_", ""]), (320, 64, ["partial_", ""]), (64, 16, ["whole"])],
)
def test_our_ops_launch_what_their_own_launchers_launch(channels: int, side: int, parts: list[str]) -> None:
    x = meta(2, channels, side, side, grad=True)
    scale, offset = meta(channels), meta(channels)
    out: list[torch.Tensor] = []
    forward = trace(lambda: out.append(group_norm_silu(x, scale, offset, 32, impl="triton")))
    backward = trace(lambda: torch.autograd.grad(out[0], x, torch.empty_like(out[0])))
    names = [launch.name for launch in forward if "group_norm" in launch.name]
    large = [f"group_norm_silu_fwd_{part}kernel" for part in parts]
    assert names == (["group_norm_silu_whole_fwd_kernel"] if parts == ["whole"] else large)
    assert sum("group_norm_silu" in launch.name for launch in backward) == len(parts)


@pytest.mark.parametrize("offset", [False, True])
def test_a_norm_with_known_statistics_is_one_launch(offset: bool) -> None:
    x, raw = meta(2, 64, 128, 128).to(memory_format=torch.channels_last), RawOps(DEVICE, torch.bfloat16, "triton")
    norm = Norm(meta(64), meta(64), 32, 1e-5)
    statistics = [torch.empty(2, 32, device="meta")] * 2
    (found,) = trace(lambda: raw.group_norm_again(x, None, None, norm, statistics, True, norm.bias if offset else None))
    assert (found.family, found.name) == ("norm", "group_norm_silu_fwd_kernel")
    assert found.bytes == pytest.approx((3 if offset else 2) * x.nbytes, rel=0.01)


def test_cudnns_attention_is_one_launch_with_queries_and_keys() -> None:
    q, k = meta(2, 4096, 8, 40, grad=True), meta(2, 300, 8, 40, grad=True)
    out: list[torch.Tensor] = []
    forward = trace(lambda: out.append(attention(q, k, k, impl="cudnn")))
    backward = trace(lambda: torch.autograd.grad(out[0], (q, k), torch.empty_like(out[0])))
    for launches, products in ((forward, 4), (backward, 10)):
        (found,) = [launch for launch in launches if launch.family == "attention"]
        assert (found.side, found.rows, found.keys) == (40, 4096, 300) and "cudnn" in found.name
        assert found.flop == products * q.numel() * 300


@pytest.mark.parametrize(("keys", "kernels"), [(77, ["short"]), (4096, ["dq", "dk_dv"])])
def test_attention_launches_by_its_sizes(keys: int, kernels: list[str]) -> None:
    q, k, v = meta(2, 4096, 8, 40, grad=True), meta(2, keys, 8, 40, grad=True), meta(2, keys, 8, 40, grad=True)
    out: list[torch.Tensor] = []
    forward = trace(lambda: out.append(attention(q, k, v, impl="triton")))
    backward = trace(lambda: torch.autograd.grad(out[0], (q, k, v), torch.empty_like(out[0])))
    assert by_family(forward)["attention"] == 1 and sum(launch.flop for launch in forward) == 4 * q.numel() * keys
    found = [launch.name for launch in backward if launch.family == "attention"]
    assert found == [f"attention_bwd_{kernel}_kernel" for kernel in kernels]
    assert sum(launch.flop for launch in backward) == pytest.approx(10 * q.numel() * keys)


def test_a_bias_of_a_convolution_is_a_launch_except_where_a_compiler_fuses_it() -> None:
    """torch calls cuDNN without the bias, and adds it to the output."""
    x, weight, bias = meta(2, 8, 16, 16), meta(4, 8, 3, 3), meta(4)
    convolution, addition = trace(lambda: torch.conv2d(x, weight, bias, padding=1))
    assert (convolution.family, addition.family) == ("convolution", "pointwise")
    assert addition.bytes == 2 * 2 * (2 * 4 * 16 * 16)
    with FusedLaunches() as live:
        torch.conv2d(x, weight, bias, padding=1)
    assert [launch.family for launch in live.launches()] == ["convolution"]
