"""Attention, compared with torch's."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffexplain_fast.ops import _sdpa, attention
from diffexplain_fast.ops.attention import cudnn_preferred, fitting
from diffexplain_fast.ops.raw import RawOps
from diffexplain_fast.ops.reference import attention as reference
from tests.ops.calls import SIDES, Call, device_of, evaluate, kept_bytes, size_of, variants
from tests.ops.contract import OwnKernels


class TestAttention(OwnKernels):
    op = "attention"
    run = staticmethod(attention)
    cases: ClassVar = {
        "N2-Q5-K3-H2-D8": {"n": 2, "queries": 5, "keys": 3, "heads": 2, "columns": 8},
        "scale": {"n": 1, "queries": 2, "keys": 1, "heads": 1, "columns": 16, "scale": 0.5},
    }
    sizes = st.fixed_dictionaries(
        {
            "n": st.sampled_from([1, 2]),
            "queries": st.sampled_from([1, 7, 63]),
            "keys": st.sampled_from([5, 13, 63, 77]),
            "heads": SIDES,
            "columns": st.sampled_from([8, 40]),
            "scale": st.sampled_from([None, 0.5]),
        }
    )
    bad: ClassVar = {
        "no tensor": ({"q": 1.0}, TypeError, "q", "float"),
        "rank": ({"k": lambda k: k[0]}, ValueError, "k", r"torch.float32 \[3, 2, 8\]"),
        "whole numbers": ({"q": lambda q: q.long()}, ValueError, "q", "torch.int64"),
        "dtype": ({"v": lambda v: v.double()}, ValueError, "v", "torch.float64"),
        "no key": (
            {"k": lambda k: k[:, :0], "v": lambda v: v[:, :0]},
            ValueError,
            "k",
            r"torch.float32 \[2, 0, 2, 8\]",
        ),
        "keys": ({"v": lambda v: v[:, 1:]}, ValueError, "v", r"torch.float32 \[2, 2, 2, 8\]"),
        "heads": ({"k": lambda k: k[:, :, 1:]}, ValueError, "k", r"torch.float32 \[2, 3, 1, 8\]"),
        "no columns": ({name: lambda t: t[..., :0] for name in "qkv"}, ValueError, "q", r".*\[2, 5, 2, 0\]"),
        "no scale": ({"scale": 0.0}, ValueError, "scale", "0.0"),
        "scale": ({"scale": "1"}, TypeError, "scale", "str"),
        "impl": ({"impl": "cuda"}, ValueError, "impl", "'cuda'"),
    }

    def make(
        self,
        dtype: torch.dtype,
        *,
        n: int,
        queries: int,
        keys: int,
        heads: int,
        columns: int,
        scale: float | None = None,
    ) -> Call:
        q, k, v = (torch.randn(n, rows, heads, columns, dtype=dtype) for rows in (queries, keys, keys))
        return Call({"q": q, "k": k, "v": v}, {"scale": scale})

    def plain(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
        heads = (part.contiguous().transpose(1, 2) for part in (q, k, v))  # torch uses other kernels for other layouts
        return F.scaled_dot_product_attention(*heads, scale=scale).transpose(1, 2)

    def kept(self, call: Call) -> int:
        q = call.inputs["q"]
        return size_of(*call.inputs.values(), q) + q[..., 0].numel() * torch.float32.itemsize

    def raw(self, call: Call) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
        forward = (*call.inputs.values(), 0.3)
        o, lse = reference.attention_fwd(*forward)
        backward = (torch.randn_like(o), *call.inputs.values(), o, lse, 0.3)
        return {
            "attention_fwd": (reference.attention_fwd, forward),
            "attention_bwd": (reference.attention_bwd, backward),
        }


def some(*names: str) -> list[Any]:
    """Return implementations as parameters; those that cannot run here are skipped."""
    return [impl for impl in variants("attention") if impl.values[0] in names]


@pytest.mark.parametrize("impl", some("reference", "sdpa", "cpp"))
def test_views_of_one_projection_are_kept_without_a_copy(impl: str) -> None:
    n, rows, heads, columns = 2, 5, 3, 8
    packed = torch.randn(n, rows, 3 * heads * columns, requires_grad=True)

    def call() -> Tensor:
        q, k, v = (part.unflatten(-1, (heads, columns)) for part in packed.chunk(3, -1))
        return attention(q, k, v, impl=impl)

    output_and_lse = n * rows * heads * (columns + 1) * torch.float32.itemsize
    assert kept_bytes(call, set()) == size_of(packed) + output_and_lse
    assert kept_bytes(call, {packed.untyped_storage().data_ptr()}) == output_and_lse, "a copy was kept"
    (gradient,) = torch.autograd.grad(call().square().sum(), packed)
    assert gradient.shape == packed.shape and gradient.abs().amin(-1).min() > 0


@pytest.mark.parametrize("impl", variants("attention"))
def test_one_key_passes_its_value_on_and_has_no_gradient_itself(impl: str) -> None:
    """The scores' gradient is a difference of equal numbers, so plain PyTorch may be exact, and there is no budget."""
    contract = TestAttention()
    call = contract.at("N2-Q5-K3-H2-D8", torch.float32, device_of(impl), keys=1)
    (o,), (dq, dk, dv), (do,) = evaluate(contract.by(impl), call)
    rounding = 8 * torch.finfo(torch.float32).eps
    torch.testing.assert_close(o, call.inputs["v"].expand_as(o), rtol=rounding, atol=rounding)
    torch.testing.assert_close(dv, do.sum(1, keepdim=True), rtol=rounding, atol=rounding)
    assert all(part.abs().max() <= 8 * rounding for part in (dq, dk))


@pytest.mark.parametrize("impl", some("reference", "cpp"))
def test_large_scores_do_not_overflow(impl: str) -> None:
    q, k, v = (100 * torch.randn(1, 7, 1, 8) for _ in range(3))
    made = attention(q, k, v, impl=impl)
    winners = (q[0, :, 0] @ k[0, :, 0].T).argmax(-1)
    assert made.isfinite().all() and torch.allclose(made[0, :, 0], v[0, winners, 0])


@pytest.mark.parametrize("part", ["q", "k", "v"])
@pytest.mark.parametrize("impl", some("cpp"))
def test_a_nan_in_an_input_gives_nan_as_in_the_reference(impl: str, part: str) -> None:
    call = TestAttention().at("N2-Q5-K3-H2-D8", torch.float32)
    call.inputs[part][0, 1, 1, 2] = float("nan")
    made, expected = (attention(**call.inputs, impl=name) for name in (impl, "reference"))
    assert torch.equal(made.isnan(), expected.isnan()) and made.isnan().any()


@pytest.mark.parametrize("queries", [16, 1024])
@pytest.mark.parametrize("impl", some("cpp"))
def test_auto_chooses_the_fast_implementation_for_the_size(
    impl: str, queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, real = [], _sdpa.attention_fwd
    monkeypatch.setattr(_sdpa, "attention_fwd", lambda *given: (ran.append("sdpa"), real(*given))[1])
    q = torch.randn(1, queries, 1, 8)
    made = attention(q, q, q)
    assert ran == ["sdpa"] * (queries == 1024)
    torch.testing.assert_close(made, attention(q, q, q, impl=impl))
    assert ran == ["sdpa"] * (queries == 1024)


def test_torch_computes_the_heads_and_lengths_for_which_it_is_faster() -> None:
    def heads(queries: int, columns: int) -> torch.Tensor:
        return torch.empty(1, queries, 2, columns, device="meta")

    assert [fitting("triton", heads(9, columns), heads(9, columns)) for columns in (160, 161)] == ["triton", "sdpa"]
    assert [fitting("cpp", heads(n, 8), heads(256, 8)) for n in (256, 257)] == ["cpp", "sdpa"]
    assert fitting("reference", heads(2**16, 999), heads(9, 999), {999}) == "reference"
    with pytest.raises(
        ValueError, match=r"^impl: wanted 'sdpa' or 'reference' for more than 160 columns .*, got 'triton'"
    ):
        attention(heads(9, 161), heads(9, 161), heads(9, 161), impl="triton")


HOPPER = frozenset(range(8, 257, 8))


def test_cudnn_computes_long_keys_where_torch_prefers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(keys: int, columns: int = 40, impl: str = "triton") -> str:
        q, k = (torch.empty(1, n, 2, columns, device="meta") for n in (4096, keys))
        return fitting(impl, q, k, HOPPER)

    assert [chosen(keys) for keys in (77, 255, 256, 4096)] == ["triton", "triton", "cudnn", "cudnn"]
    assert [chosen(4096, columns) for columns in (41, 160, 256, 264)] == ["triton", "cudnn", "cudnn", "sdpa"]
    assert chosen(4096, impl="sdpa") == "cudnn" and chosen(4096, impl="reference") == "reference"
    monkeypatch.setattr(torch.backends.cuda, "cudnn_sdp_enabled", lambda: False)
    assert chosen(4096) == "triton"


def test_deterministic_algorithms_leave_cudnn_out() -> None:
    q = torch.empty(1, 512, 2, 40, device="meta")
    try:
        for warn_only, chosen in ((False, "triton"), (True, "cudnn")):
            torch.use_deterministic_algorithms(True, warn_only=warn_only)
            assert fitting("triton", q, q, HOPPER) == chosen
    finally:
        torch.use_deterministic_algorithms(False)


def test_cudnn_has_the_shapes_of_the_other_kernels() -> None:
    q, k = (torch.empty(2, n, 3, 40, device="meta", dtype=torch.bfloat16, requires_grad=True) for n in (9, 5))
    o = attention(q, k, k, impl="cudnn")
    assert o.shape == q.shape and o.is_contiguous()
    dq, dk = torch.autograd.grad(o, (q, k), torch.empty_like(o))
    assert dq.is_contiguous() and dk.is_contiguous() and (dq.shape, dk.shape) == (q.shape, k.shape)
    _, lse = _sdpa.cudnn_attention_fwd(q, k, k, 0.3)
    assert lse.shape == (2, 3, 9, 1) and lse.dtype == torch.float32


@pytest.mark.parametrize("columns", [12, 264])
def test_cudnn_refuses_columns_that_it_does_not_have(columns: int) -> None:
    q = torch.empty(1, 9, 1, columns, device="meta", dtype=torch.float16)
    with pytest.raises(ValueError, match=f"^impl: wanted 'triton' or 'sdpa' for {columns} columns .* got 'cudnn'"):
        attention(q, q, q, impl="cudnn")


def test_torch_prefers_cudnn_only_on_a_gpu_and_in_half_precision() -> None:
    assert cudnn_preferred(torch.device("cpu"), torch.bfloat16) == frozenset()
    assert cudnn_preferred(torch.device("cuda"), torch.float32) == frozenset()


CUDNN = cudnn_preferred(torch.device("cuda"), torch.bfloat16) if torch.cuda.is_available() else frozenset()


@pytest.mark.gpu
@pytest.mark.skipif(40 not in CUDNN, reason="torch does not prefer cuDNN's attention here")
@pytest.mark.parametrize("shape", [(256, 256, 160), (300, 290, 40), (1024, 1024, 80)], ids=str)
def test_cudnn_is_within_the_budget_and_auto_takes_it(shape: tuple[int, int, int]) -> None:
    queries, keys, columns = shape
    contract = TestAttention()

    def draw() -> Call:
        with torch.device("cuda"):
            return contract.make(torch.bfloat16, n=2, queries=queries, keys=keys, heads=3, columns=columns)

    torch.manual_seed(0)
    contract.compare("cudnn" if columns in CUDNN else "sdpa", draw)
    call = draw()
    call.inputs["q"].requires_grad_()
    one, other = (attention(**call.inputs, impl=impl) for impl in ("auto", "cudnn" if columns in CUDNN else "triton"))
    assert torch.equal(one, other)


@pytest.mark.gpu
@pytest.mark.skipif(40 not in CUDNN, reason="torch does not prefer cuDNN's attention here")
def test_cudnn_runs_in_a_cuda_graph_and_hands_over_to_triton() -> None:
    q, do = (torch.randn(2, 512, 3, 40, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    raw = RawOps(q.device, q.dtype)
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()

    def both() -> list[Tensor]:
        o, lse = raw.attention_fwd(q, q, q, 0.3)
        return [o, *raw.attention_bwd(do, q, q, q, o, lse, 0.3)]

    with torch.cuda.stream(stream):
        wanted = both()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        made = both()
    graph.replay()
    for got, eager in zip(made, wanted, strict=True):
        torch.testing.assert_close(got, eager, rtol=2e-2, atol=2e-2)
    o, lse = raw.attention_fwd(q, q, q, 0.3)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        for got, eager in zip(raw.attention_bwd(do, q, q, q, o, lse, 0.3), wanted[1:], strict=True):
            torch.testing.assert_close(got, eager, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("impl", ["reference", "sdpa", "auto"])
def test_overlapping_windows_have_the_right_values_and_gradients(impl: str) -> None:
    line = torch.randn(100, generator=torch.Generator().manual_seed(0))
    q = line.as_strided((2, 4, 3, 8), (1, 2, 3, 1)).requires_grad_()
    plain = q.detach().clone().requires_grad_()
    got = attention(q, 0.5 * q, q + 1, impl=impl)
    wanted = attention(plain, 0.5 * plain, plain + 1, impl="reference")
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(torch.autograd.grad(got.sum(), q)[0], torch.autograd.grad(wanted.sum(), plain)[0])
