"""Classifier-free guidance and one linear step of a sampler in one pass, and their adjoint."""

from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.ops._autocast import without_autocast
from diffexplain_fast.ops._autograd import Context, first_order, refuse_transforms
from diffexplain_fast.ops._check import check_frozen, check_like, check_tensors
from diffexplain_fast.ops._impl import choose, raw
from diffexplain_fast.ops._register import register
from diffexplain_fast.ops.reference import guided_step as reference

N_COEFFICIENTS = 8


class GuidedStep(NamedTuple):
    """The result of a step.

    Attributes:
        following: x_{i+1}, like the sample.
        data: prediction of the clean sample, like the sample.
    """

    following: Tensor
    data: Tensor


@without_autocast
def guided_step(
    sample: Tensor,
    output: Tensor,
    coefficients: Tensor,
    before: Tensor | None = None,
    noise: Tensor | None = None,
    *,
    impl: str = "auto",
) -> GuidedStep:
    """Guide the denoiser's output and take one step: o = u + g (c - u), x' = a x + b o + p d_before + s z.

    Args:
        sample: x_i [B, c, h, w], float32 or float64.
        output: denoiser's output [B, c, h, w], or [2B, c, h, w] with the unconditional rows first; any float dtype.
        coefficients: [8], dtype and device of ``sample``: g, a, b, p, s, then the two factors of sample and output in
            the prediction of the clean sample, and the factor of the sample at the denoiser's input, which this op
            does not use. They are on the device, so that a captured graph can be replayed with others.
        before: the clean sample that the previous step predicted, like ``sample``.
        noise: standard normal noise like ``sample``.
        impl: "auto", "reference", "triton", "cuda" or "cpp".

    Returns:
        x_{i+1} and the prediction of the clean sample; differentiable in ``sample``, ``output`` and ``before``. Kept
        for backward: only the coefficients.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: wrong shape, dtype or device, coefficients or noise that require grad, an ``impl`` that cannot run.

    Equivalent to: ``u + g * (c - u)`` followed by a diffusers scheduler's ``step``.

    Source: Ho and Salimans (arXiv 2207.12598), eq. 6; the samplers' tables are in ``engine.schedules``.
    """
    refuse_transforms("guided_step", sample, output, before)
    check_tensors(sample=sample, output=output, coefficients=coefficients)
    if sample.dtype not in (torch.float32, torch.float64) or sample.ndim != 4:
        raise wrong_value("sample", "float32 or float64 [B, c, h, w]", f"{sample.dtype} {list(sample.shape)}")
    rows, *rest = sample.shape
    if not output.is_floating_point() or output.device != sample.device:
        raise wrong_value("output", f"floating point on {sample.device}", f"{output.dtype} on {output.device}")
    if list(output.shape) not in ([rows, *rest], [2 * rows, *rest]):
        raise wrong_value("output", f"{[rows, *rest]} or {[2 * rows, *rest]}", list(output.shape))
    check_like(sample, [N_COEFFICIENTS], coefficients=coefficients)
    check_like(sample, sample.shape, before=before, noise=noise)
    check_frozen(coefficients=coefficients, noise=noise)
    chosen = choose("guided_step", "reference" if sample.numel() == 0 else impl, sample.device, sample.dtype).impl
    tensors = (x if x is None else x.contiguous() for x in (sample, output, before, noise))
    return GuidedStep(*_GuidedStep.apply(*tensors, coefficients, chosen))


class _GuidedStep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Context, sample: Tensor, output: Tensor, before: Tensor | None, noise: Tensor | None, coefficients: Tensor,
        impl: str,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        forward = raw("guided_step_fwd", impl, reference.guided_step_fwd)
        ctx.save_for_backward(coefficients)
        ctx.guided, ctx.impl, ctx.has_before = output.shape[0] != sample.shape[0], impl, before is not None
        ctx.like = output.dtype, output.device
        ctx.set_materialize_grads(False)
        return forward(sample, output, before, noise, coefficients)

    @staticmethod
    @first_order("guided_step")
    def backward(
        ctx: Context, saved: tuple[Tensor, ...], dfollowing: Tensor | None, ddata: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        (coefficients,) = saved
        if dfollowing is None:
            if ddata is None:
                return (None,) * 6
            dfollowing = torch.zeros_like(ddata)
        backward = raw("guided_step_bwd", ctx.impl, reference.guided_step_bwd)
        dtype, device = ctx.like
        like = torch.empty(0, dtype=dtype, device=device)
        ddata = None if ddata is None else ddata.contiguous()
        dsample, doutput, dbefore = backward(dfollowing.contiguous(), ddata, coefficients, ctx.guided, like)
        return dsample, doutput, dbefore if ctx.has_before else None, None, None, None


def _fake_bwd(
    dfollowing: Tensor, ddata: Tensor | None, coefficients: Tensor, guided: bool, like: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    rows = (2 if guided else 1) * dfollowing.shape[0]
    doutput = like.new_empty((rows, *dfollowing.shape[1:]))
    return torch.empty_like(dfollowing), doutput, torch.empty_like(dfollowing)


def _kernels() -> ModuleType:
    from diffexplain_fast.kernels import guided_step

    return guided_step


register(
    "guided_step_fwd",
    "(Tensor sample, Tensor output, Tensor? before, Tensor? noise, Tensor coefficients) -> (Tensor, Tensor)",
    lambda sample, output, before, noise, coefficients: (torch.empty_like(sample), torch.empty_like(sample)),
    _kernels,
)
register(
    "guided_step_bwd",
    "(Tensor dfollowing, Tensor? ddata, Tensor coefficients, bool guided, Tensor like) -> (Tensor, Tensor, Tensor)",
    _fake_bwd,
    _kernels,
)
