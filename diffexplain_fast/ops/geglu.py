"""GEGLU: one half of a projection gates the other through the exact GELU."""

from types import ModuleType

import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.ops._autocast import without_autocast
from diffexplain_fast.ops._autograd import Context, first_order, refuse_transforms
from diffexplain_fast.ops._check import check_tensors
from diffexplain_fast.ops._impl import choose, raw
from diffexplain_fast.ops._register import register, rows
from diffexplain_fast.ops.reference import geglu as reference


@without_autocast
def geglu(h: Tensor, *, impl: str = "auto") -> Tensor:
    """Return value * gelu(gate) of a packed projection h = (value, gate).

    Args:
        h: packed projection [..., 2D]; a contiguous tensor is not copied.
        impl: "auto", "reference", "triton" or "cpp".

    Returns:
        [..., D], dtype of ``h``, differentiable in ``h``. Kept for backward: only ``h``.

    Raises:
        TypeError: ``h`` is not a tensor.
        ValueError: an odd last dimension, a dtype that is not floating point, an ``impl`` that cannot run.

    Equivalent to: ``value * F.gelu(gate)`` with ``value, gate = h.chunk(2, -1)``.

    Source: Shazeer, GLU Variants Improve Transformer (arXiv 2002.05202), eq. 5, with GELU by the error function, as
        in diffusers (the tanh form is another function).
    """
    refuse_transforms("geglu", h)
    check_tensors(h=h)
    if h.ndim < 1 or h.shape[-1] % 2 or not h.is_floating_point():
        raise wrong_value("h", "floating point [..., 2D]", f"{h.dtype} {list(h.shape)}")
    chosen = choose("geglu", "reference" if h.numel() == 0 else impl, h.device, h.dtype).impl
    y = _Geglu.apply(rows(h.contiguous()), chosen)
    return y if h.ndim == 2 else y.reshape(*h.shape[:-1], h.shape[-1] // 2)


class _Geglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, h: Tensor, impl: str) -> Tensor:
        forward = raw("geglu_fwd", impl, reference.geglu_fwd)
        ctx.save_for_backward(h)
        ctx.impl = impl
        return forward(h)

    @staticmethod
    @first_order("geglu")
    def backward(ctx: Context, saved: tuple[Tensor, ...], dy: Tensor) -> tuple[Tensor | None, ...]:
        (h,) = saved
        backward = raw("geglu_bwd", ctx.impl, reference.geglu_bwd)
        return backward(dy.contiguous(), h), None


def _kernels() -> ModuleType:
    from diffexplain_fast.kernels import geglu

    return geglu


register(
    "geglu_fwd",
    "(Tensor h) -> Tensor",
    lambda h: h.new_empty((h.shape[0], h.shape[1] // 2)),
    _kernels,
)
register("geglu_bwd", "(Tensor dy, Tensor h) -> Tensor", lambda dy, h: torch.empty_like(h), _kernels)
