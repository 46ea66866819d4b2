"""Softmax attention that never writes its scores."""

import math
from collections.abc import Collection
from types import ModuleType

import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.ops import _sdpa
from diffexplain_fast.ops._autocast import without_autocast
from diffexplain_fast.ops._autograd import Context, first_order, refuse_transforms
from diffexplain_fast.ops._check import check_like, check_positive, check_tensors
from diffexplain_fast.ops._impl import HALF, choose, raw
from diffexplain_fast.ops._register import register
from diffexplain_fast.ops.reference import attention as reference

_TRITON_HEAD = 160
"""Largest head dimension of the Triton kernels."""
_CPP_SCORES = 2**16
"""Most scores of a head for which the C++ kernel is faster than torch's: measured 4 times at 16 x 16, 1.1 at 256 x
256."""

_CUDNN_KEYS = 256
"""Fewest keys with which cuDNN is faster than Triton's kernels. Measured on an H200 in bfloat16, forward and backward
together, microseconds of cuDNN and of Triton: 136 and 66 for 77 keys, 41 and 77 for 256, 73 and 140 for 1024, 561 and
873 for 4096."""
_TEXT_KEYS, _TEXT_HEAD = 80, 96
"""Most keys, and largest head dimension, with which Triton's backward reads no output, in half precision: a program of
it holds the scores of all keys."""
cudnn_preferred, CUDNN_DIMS = _sdpa.cudnn_preferred, _sdpa.CUDNN_DIMS


@without_autocast
def attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None, *, impl: str = "auto") -> Tensor:
    """Return softmax(scale q k^T) v for every head.

    Args:
        q: queries [B, Nq, H, D], last stride 1: a view of a projection [B, Nq, H D] needs no copy.
        k: keys [B, Nk, H, D], Nk at least 1.
        v: values [B, Nk, H, D].
        scale: factor of the scores, above 0; 1 / sqrt(D) if None.
        impl: "auto", "reference", "triton", "cpp", "sdpa" (torch's kernels), "cudnn" (for half precision) or
            "xformers" (never chosen by "auto"). "auto" takes "cudnn" for long keys where torch prefers it, except
            under ``torch.use_deterministic_algorithms``: its gradients are summed in any order.

    Returns:
        [B, Nq, H, D], dtype of ``q``, differentiable in ``q``, ``k`` and ``v``. Kept for backward: q, k, v, the output,
        and the log-sum-exp [B, H, Nq] in float32.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: wrong shape, dtype or device, or an ``impl`` that cannot run.

    Equivalent to: ``F.scaled_dot_product_attention`` on the transposed tensors, transposed back.

    Source: Vaswani et al. (arXiv 1706.03762), eq. 1; Dao, FlashAttention-2 (arXiv 2307.08691), algorithms 1 and 2.
    """
    refuse_transforms("attention", q, k, v)
    check_tensors(q=q, k=k, v=v)
    for name, value in (("q", q), ("k", k)):
        if value.ndim != 4 or not value.is_floating_point() or 0 in value.shape[1:]:
            wanted = "floating point [B, N, H, D], N, H and D at least 1"
            raise wrong_value(name, wanted, f"{value.dtype} {list(value.shape)}")
    check_like(q, [q.shape[0], k.shape[1], *q.shape[2:]], k=k, v=v)
    if scale is not None:
        check_positive(scale=scale)
    chosen = choose("attention", "reference" if q.numel() == 0 else impl, q.device, q.dtype).impl
    if impl == "auto":
        chosen = fitting(chosen, q, k, () if torch.compiler.is_compiling() else cudnn_preferred(q.device, q.dtype))
    _check_size(chosen, q, k)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    if chosen == "xformers":
        return _sdpa.xformers_attention(q, k, v, scale)
    q, k, v = [tensor if _readable(tensor) else tensor.contiguous() for tensor in (q, k, v)]
    return _Attention.apply(q, k, v, scale, chosen)


def _check_size(impl: str, q: Tensor, k: Tensor) -> None:
    columns, keys = q.shape[-1], k.shape[1]
    if impl == "triton" and columns > _TRITON_HEAD:
        wanted = f"'sdpa' or 'reference' for more than {_TRITON_HEAD} columns per head"
        raise wrong_value("impl", wanted, f"'triton' for {columns}")
    if impl == "cudnn" and not _sdpa.cudnn_runs(columns, keys, q.device, q.dtype):
        wanted = f"'triton' or 'sdpa' for {columns} columns per head and {keys} keys, with these settings of torch"
        raise wrong_value("impl", wanted, "'cudnn', which refuses them")


def _readable(tensor: Tensor) -> bool:
    """Return whether columns are contiguous and elements overlap only by expansion.

    Other layouts are copied, because torch's kernels would write their results in the layout of their inputs.
    """
    steps = [(step, n) for step, n in zip(tensor.stride(), tensor.shape, strict=True) if step and n > 1]
    extent = 1 + sum([step * (n - 1) for step, n in steps])
    return tensor.stride(-1) == 1 and math.prod([n for _, n in steps]) <= extent


def fitting(impl: str, q: Tensor, k: Tensor, cudnn: Collection[int] = ()) -> str:
    """Return the implementation for these sizes: the chosen one, or "cudnn" or "sdpa" if those are faster.

    Args:
        impl: implementation that was chosen for the device and dtype.
        q: queries [B, Nq, H, D].
        k: keys [B, Nk, H, D].
        cudnn: head dimensions for which torch prefers cuDNN on the device; see ``cudnn_preferred``.
    """
    if impl in ("triton", "sdpa") and q.shape[-1] in cudnn and k.shape[1] >= _CUDNN_KEYS and _sdpa.cudnn_allowed():
        return "cudnn"
    wide, large = q.shape[-1] > _TRITON_HEAD, q.shape[1] * k.shape[1] > _CPP_SCORES
    return "sdpa" if (impl == "triton" and wide) or (impl == "cpp" and large) else impl


def attention_with_lse(q: Tensor, k: Tensor, v: Tensor, scale: float, impl: str) -> tuple[Tensor, Tensor]:
    """Return the output and the log-sum-exp without recording a graph, for callers with a backward of their own.

    Args:
        q: queries [B, Nq, H, D].
        k: keys [B, Nk, H, D].
        v: values [B, Nk, H, D].
        scale: factor of the scores.
        impl: a chosen implementation, not "auto".
    """
    if impl == "sdpa":
        return _sdpa.attention_fwd(q, k, v, scale)
    if impl == "cudnn":
        return _sdpa.cudnn_attention_fwd(q, k, v, scale)
    forward = raw("attention_fwd", impl, reference.attention_fwd)
    return forward(q, k, v, scale)


_APART = ("triton", "reference")
"""Implementations that can do without the output, or without gradients of the first images' keys and values."""


def reads_output(q: Tensor, k: Tensor, impl: str) -> bool:
    """Return whether ``attention_gradients`` reads the output.

    Args:
        q: queries [B, Nq, H, D].
        k: keys [B, Nk, H, D].
        impl: a chosen implementation; the reference does as Triton's kernels do.
    """
    few = k.shape[1] <= _TEXT_KEYS and q.shape[-1] <= _TEXT_HEAD and q.dtype in HALF
    return not few or impl not in _APART


def attention_gradients(
    do: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor | None, lse: Tensor, scale: float, impl: str, first: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v from the results of ``attention_with_lse``.

    Args:
        do: gradient of the output [B, Nq, H, D].
        q: queries [B, Nq, H, D].
        k: keys [B, Nk, H, D].
        v: values [B, Nk, H, D].
        o: output [B, Nq, H, D]; None where ``reads_output`` says so.
        lse: log-sum-exp [B, H, Nq].
        scale: factor of the scores.
        impl: the implementation of the forward.
        first: gradients of k and v are not asked for before this image; zeros there from Triton and the reference.
    """
    if o is None or (first and impl in _APART):
        apart = raw("attention_text_bwd", impl, reference.attention_text_bwd)
        return apart(do, q, k, v, o, lse, scale, first)
    if impl == "sdpa":
        return _sdpa.attention_bwd(do, q, k, v, o, lse, scale)
    if impl == "cudnn":
        return _sdpa.cudnn_attention_bwd(do, q, k, v, o, lse, scale)
    backward = raw("attention_bwd", impl, reference.attention_bwd)
    return backward(do, q, k, v, o, lse, scale)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, q: Tensor, k: Tensor, v: Tensor, scale: float, impl: str) -> Tensor:
        o, lse = attention_with_lse(q, k, v, scale, impl)
        ctx.save_for_backward(q, k, v, o, lse)
        ctx.scale, ctx.impl = scale, impl
        return o

    @staticmethod
    @first_order("attention")
    def backward(ctx: Context, saved: tuple[Tensor, ...], do: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, o, lse = saved
        return *attention_gradients(do.contiguous(), q, k, v, o, lse, ctx.scale, ctx.impl), None, None


def _fake_fwd(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    lse = q.new_empty((q.shape[0], q.shape[2], q.shape[1]), dtype=torch.promote_types(q.dtype, torch.float32))
    return q.new_empty(q.shape), lse


def _kernels() -> ModuleType:
    from diffexplain_fast.kernels import attention

    return attention


register("attention_fwd", "(Tensor q, Tensor k, Tensor v, float scale) -> (Tensor, Tensor)", _fake_fwd, _kernels)
register(
    "attention_bwd",
    "(Tensor do, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse, float scale) -> (Tensor, Tensor, Tensor)",
    lambda do, q, k, v, o, lse, scale: (q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)),
    _kernels,
)
register(
    "attention_text_bwd",
    "(Tensor do, Tensor q, Tensor k, Tensor v, Tensor? o, Tensor lse, float scale, int first)"
    " -> (Tensor, Tensor, Tensor)",
    lambda do, q, k, v, o, lse, scale, first: (q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)),
    _kernels,
)
