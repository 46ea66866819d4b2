"""GroupNorm, the time embedding before it, SiLU after it, over one tensor or over two as if concatenated."""

from types import ModuleType

import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.ops._autocast import without_autocast
from diffexplain_fast.ops._autograd import Context, first_order, refuse_transforms
from diffexplain_fast.ops._check import check_at_least, check_frozen, check_like, check_positive, check_tensors
from diffexplain_fast.ops._impl import choose, raw
from diffexplain_fast.ops._register import channels_last, register
from diffexplain_fast.ops.reference import group_norm_silu as reference


@without_autocast
def group_norm_silu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    num_groups: int,
    eps: float = 1e-5,
    *,
    skip: Tensor | None = None,
    shift: Tensor | None = None,
    silu: bool = True,
    impl: str = "auto",
) -> Tensor:
    """Normalise groups of channels, then apply SiLU: y = silu(GroupNorm([x, skip] + shift)).

    Args:
        x: activations [N, C1, H, W], any memory format; a channels-last tensor is not copied.
        weight: frozen scale [C], C = C1 + C2, dtype of ``x`` or float32.
        bias: frozen offset [C], dtype as for ``weight``.
        num_groups: number of groups of C / num_groups channels, at least 1; a group may have channels of both tensors.
        eps: added to the variance, above 0.
        skip: second part of the channels [N, C2, H, W]; the concatenation is never written.
        shift: [N, C], added to every pixel before the norm, for example a time embedding.
        silu: True to apply SiLU.
        impl: "auto", "reference", "triton", "cuda" or "cpp".

    Returns:
        [N, C, H, W], channels-last, dtype of ``x``; differentiable in ``x``, ``skip`` and ``shift``. Kept for backward:
        x, skip and shift, and mean and rstd [N, num_groups] in float32. If squares overflow float32, for numbers above
        about 1e19, "reference" and "cpp" are right, but "triton" and "cuda" give NaN.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: wrong shape, dtype or device, a weight that requires grad, an ``impl`` that cannot run.

    Equivalent to: ``F.silu(F.group_norm(torch.cat([x, skip], 1) + shift[..., None, None], num_groups, weight, bias))``.

    Source: Wu and He, Group Normalization (arXiv 1803.08494), eq. 1 and 2; the backward is its adjoint in the input.
    """
    refuse_transforms("group_norm_silu", x, skip, shift)
    _check(x, skip, shift, weight, bias, num_groups)
    check_positive(eps=eps)
    check_frozen(weight=weight, bias=bias)
    chosen = choose("group_norm_silu", "reference" if x.numel() == 0 else impl, x.device, x.dtype).impl
    sources = (channels_last(x), None if skip is None else channels_last(skip))
    return _GroupNormSilu.apply(*sources, shift, weight, bias, num_groups, float(eps), silu, chosen)


class _GroupNormSilu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Context, x: Tensor, skip: Tensor | None, shift: Tensor | None, weight: Tensor, bias: Tensor,
        groups: int, eps: float, silu: bool, impl: str,
    ) -> Tensor:  # fmt: skip
        forward = raw("group_norm_silu_fwd", impl, reference.group_norm_silu_fwd)
        y, mean, rstd = forward(x, skip, shift, weight, bias, groups, eps, silu)
        ctx.save_for_backward(x, skip, shift, weight, bias, mean, rstd)
        ctx.groups, ctx.silu, ctx.impl = groups, silu, impl
        return y

    @staticmethod
    @first_order("group_norm_silu")
    def backward(ctx: Context, saved: tuple[Tensor, ...], dy: Tensor) -> tuple[Tensor | None, ...]:
        x, skip, shift, weight, bias, mean, rstd = saved
        backward = raw("group_norm_silu_bwd", ctx.impl, reference.group_norm_silu_bwd)
        dx, dskip = backward(channels_last(dy), x, skip, shift, weight, bias, mean, rstd, ctx.groups, ctx.silu)
        dshift = None
        if shift is not None and ctx.needs_input_grad[2]:
            grads, wide = (dx,) if skip is None else (dx, dskip), torch.promote_types(x.dtype, torch.float32)
            sums = [grad.sum((2, 3), dtype=wide) for grad in grads]
            dshift = torch.cat(sums, 1).to(shift.dtype)
        return dx, None if skip is None else dskip, dshift, None, None, None, None, None, None


def _check(x: Tensor, skip: Tensor | None, shift: Tensor | None, weight: Tensor, bias: Tensor, num_groups: int) -> None:
    check_tensors(x=x, weight=weight, bias=bias)
    if x.ndim != 4 or not x.is_floating_point():
        raise wrong_value("x", "floating point [N, C, H, W]", f"{x.dtype} {list(x.shape)}")
    channels = x.shape[1]
    if skip is not None:
        check_tensors(skip=skip)
        if skip.ndim != 4 or (skip.shape[0], *skip.shape[2:]) != (x.shape[0], *x.shape[2:]):
            raise wrong_value("skip", f"[{x.shape[0]}, C2, {x.shape[2]}, {x.shape[3]}]", list(skip.shape))
        if skip.dtype != x.dtype or skip.device != x.device:
            raise wrong_value("skip", f"{x.dtype} on {x.device}, as x", f"{skip.dtype} on {skip.device}")
        channels += skip.shape[1]
    check_like(x, [channels], float32_too=True, weight=weight, bias=bias)
    check_like(x, [x.shape[0], channels], float32_too=True, shift=shift)
    check_at_least(1, num_groups=num_groups)
    if channels % num_groups:
        raise wrong_value("num_groups", f"a divisor of {channels} channels", num_groups)


def _fake_fwd(
    x: Tensor, skip: Tensor | None, shift: Tensor | None, weight: Tensor, bias: Tensor, num_groups: int,
    eps: float, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    n, _, height, width = x.shape
    y = x.new_empty((n, weight.shape[0], height, width)).contiguous(memory_format=torch.channels_last)
    statistics = x.new_empty((n, num_groups), dtype=torch.promote_types(x.dtype, torch.float32))
    return y, statistics, torch.empty_like(statistics)


def _fake_again(
    x: Tensor, skip: Tensor | None, shift: Tensor | None, weight: Tensor, *rest: Tensor | None
) -> tuple[Tensor, Tensor]:
    y = x.new_empty((x.shape[0], weight.shape[0], *x.shape[2:])).contiguous(memory_format=torch.channels_last)
    return y, x.new_empty(0) if rest[-1] is None else torch.empty_like(x)


def _fake_bwd(dy: Tensor, x: Tensor, skip: Tensor | None, *rest: object) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty(0) if skip is None else torch.empty_like(skip)


def _kernels() -> ModuleType:
    from diffexplain_fast.kernels import group_norm_silu

    return group_norm_silu


register(
    "group_norm_silu_fwd",
    "(Tensor x, Tensor? skip, Tensor? shift, Tensor weight, Tensor bias, int num_groups, float eps, bool silu)"
    " -> (Tensor, Tensor, Tensor)",
    _fake_fwd,
    _kernels,
)
register(
    "group_norm_silu_bwd",
    "(Tensor dy, Tensor x, Tensor? skip, Tensor? shift, Tensor weight, Tensor bias, Tensor mean, Tensor rstd,"
    " int num_groups, bool silu) -> (Tensor, Tensor)",
    _fake_bwd,
    _kernels,
)
register(  # of Triton only, as the next ones: other kernels compute the statistics again, and sum in a call of its own
    "group_norm_silu_fwd_copy",
    "(Tensor x, Tensor? shift, Tensor weight, Tensor bias, int num_groups, float eps, bool silu, Tensor offset)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    lambda x, shift, *rest: (*_fake_fwd(x, None, shift, *rest[:-1]), torch.empty_like(x)),
    _kernels,
)
register(
    "group_norm_silu_again",
    "(Tensor x, Tensor? skip, Tensor? shift, Tensor weight, Tensor bias, Tensor mean, Tensor rstd, int num_groups,"
    " float eps, bool silu, Tensor? offset) -> (Tensor, Tensor)",
    _fake_again,
    _kernels,
)
register(
    "group_norm_silu_bwd_add",
    "(Tensor dy, Tensor x, Tensor? skip, Tensor? shift, Tensor weight, Tensor bias, Tensor mean, Tensor rstd,"
    " int num_groups, bool silu, Tensor more, Tensor? beside) -> (Tensor, Tensor)",
    _fake_bwd,
    _kernels,
)
