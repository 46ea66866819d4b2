"""The gate compares true float32: with TF32, which is emulated here, it would refuse the same gradient."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from diffexplain_fast.measuring.bench import gate, workloads
from diffexplain_fast.measuring.bench.gate import gates, short, true_float32
from diffexplain_fast.measuring.bench.rivals import OURS, RIVALS

_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")


class Tf32(TorchDispatchMode):
    """Rounds what convolutions and matrix products multiply to 10 bits, where torch's settings allow a GPU to."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, cudnn = func.overloadpacket.__name__, torch.backends.cudnn
        convolution = name in ("convolution", "convolution_backward") and cudnn.conv.fp32_precision == "tf32"
        product = name in _PRODUCTS and torch.backends.cuda.matmul.fp32_precision == "tf32"
        if convolution or product:
            args = tuple(rounded(part) if isinstance(part, Tensor) else part for part in args)
        return func(*args, **(kwargs or {}))


def rounded(x: Tensor) -> Tensor:
    """Return float32 numbers with 10 bits of mantissa."""
    if x.is_meta or x.dtype != torch.float32 or x.layout is not torch.strided:
        return x
    return ((x.detach().contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32).view_as(x)


def test_tf32_is_off_while_gradients_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    given = short(workloads.tinyworld(torch.device("cpu"), torch.float32))
    rival = {OURS: RIVALS[OURS]}
    with Tf32():
        ((_, row),) = gates(given, rival)
        assert row["gradient_distance"] < 1e-3
        with monkeypatch.context() as without:
            without.setattr(gate, "true_float32", nullcontext)
            ((_, row),) = gates(given, rival)
    assert row["refused"] == f"its gradient is {row['gradient_distance']:.1e} from plain autograd's"


@pytest.mark.parametrize("newer", [False, True])
def test_the_callers_settings_come_back_also_after_an_exception(newer: bool) -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn

    def found() -> tuple[str, ...]:
        return matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision

    try:
        if newer:
            matmul.fp32_precision, cudnn.rnn.fp32_precision = "tf32", "ieee"
        before = found()
        assert before[1] == "tf32"
        with pytest.raises(RuntimeError, match="stop"), true_float32():
            assert "tf32" not in found()
            raise RuntimeError("stop")
        assert found() == before
    finally:
        matmul.fp32_precision, cudnn.rnn.fp32_precision = "none", "tf32"
    assert cudnn.allow_tf32


def test_the_benchmarks_head_has_no_kink() -> None:
    loss = workloads._head(torch.device("cpu"), torch.float32)
    images = torch.rand(1, 3, 64, 64)

    def gradient(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(loss(x), x)[0]

    one, two = gradient(images), gradient(images + 1e-3 * torch.randn_like(images))
    assert (one - two).norm() < 5e-3 * one.norm()
