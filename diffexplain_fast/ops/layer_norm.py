"""LayerNorm over the last dimension with frozen weights."""

from types import ModuleType

import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.ops._autocast import without_autocast
from diffexplain_fast.ops._autograd import Context, first_order, refuse_transforms
from diffexplain_fast.ops._check import check_frozen, check_like, check_positive, check_tensors
from diffexplain_fast.ops._impl import choose, raw
from diffexplain_fast.ops._register import register, rows
from diffexplain_fast.ops.reference import layer_norm as reference


@without_autocast
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5, *, impl: str = "auto") -> Tensor:
    """Normalise the last dimension: y = (x - mean) rstd weight + bias.

    Args:
        x: activations [..., D]; a contiguous tensor is not copied.
        weight: frozen scale [D], dtype of ``x`` or float32.
        bias: frozen offset [D], dtype as for ``weight``.
        eps: added to the variance, above 0.
        impl: "auto", "reference", "triton" or "cpp".

    Returns:
        [..., D], dtype of ``x``, differentiable in ``x``. Kept for backward: x, and mean and rstd [...] in float32.
        If squares overflow float32, for numbers above about 1e19, "triton" gives NaN.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: wrong shape, dtype or device, a weight that requires grad, an ``impl`` that cannot run.

    Equivalent to: ``F.layer_norm(x, x.shape[-1:], weight, bias, eps)``.

    Source: Ba, Kiros, Hinton, Layer Normalization (arXiv 1607.06450), eq. 4; the backward is its adjoint in x.
    """
    refuse_transforms("layer_norm", x)
    check_tensors(x=x, weight=weight, bias=bias)
    if x.ndim < 1 or not x.is_floating_point():
        raise wrong_value("x", "floating point [..., D]", f"{x.dtype} {list(x.shape)}")
    check_like(x, x.shape[-1:], float32_too=True, weight=weight, bias=bias)
    check_positive(eps=eps)
    check_frozen(weight=weight, bias=bias)
    chosen = choose("layer_norm", "reference" if x.numel() == 0 else impl, x.device, x.dtype).impl
    y = _LayerNorm.apply(rows(x.contiguous()), weight, bias, float(eps), chosen)
    return y if x.ndim == 2 else y.reshape(x.shape)


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, x: Tensor, weight: Tensor, bias: Tensor, eps: float, impl: str) -> Tensor:
        forward = raw("layer_norm_fwd", impl, reference.layer_norm_fwd)
        y, mean, rstd = forward(x, weight, bias, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.impl = impl
        return y

    @staticmethod
    @first_order("layer_norm")
    def backward(ctx: Context, saved: tuple[Tensor, ...], dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = saved
        backward = raw("layer_norm_bwd", ctx.impl, reference.layer_norm_bwd)
        return backward(dy.contiguous(), x, weight, mean, rstd), None, None, None, None


def _fake_fwd(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    statistics = x.new_empty(x.shape[0], dtype=torch.promote_types(x.dtype, torch.float32))
    return torch.empty_like(x), statistics, torch.empty_like(statistics)


def _kernels() -> ModuleType:
    from diffexplain_fast.kernels import layer_norm

    return layer_norm


register(
    "layer_norm_fwd",
    "(Tensor x, Tensor weight, Tensor bias, float eps) -> (Tensor, Tensor, Tensor)",
    _fake_fwd,
    _kernels,
)
register(
    "layer_norm_bwd",
    "(Tensor dy, Tensor x, Tensor weight, Tensor mean, Tensor rstd) -> Tensor",
    lambda dy, x, weight, mean, rstd: torch.empty_like(x),
    _kernels,
)
register(  # of Triton only, as the next one: with other kernels the sum is a call of its own
    "layer_norm_fwd_copy",
    "(Tensor x, Tensor weight, Tensor bias, float eps, Tensor offset) -> (Tensor, Tensor, Tensor, Tensor)",
    lambda x, weight, bias, eps, offset: (*_fake_fwd(x, weight, bias, eps), torch.empty_like(x)),
    _kernels,
)
register(
    "layer_norm_bwd_add",
    "(Tensor dy, Tensor x, Tensor weight, Tensor mean, Tensor rstd, Tensor more) -> Tensor",
    lambda dy, x, weight, mean, rstd, more: torch.empty_like(x),
    _kernels,
)
