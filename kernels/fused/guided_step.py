"""Guidance and one linear step: o = u + g (c - u), following = a x + b o + p before + s noise, data = d x + e o.

The kernel reads eight coefficients from device memory, so that a captured graph can be replayed with others; their
order is (g, a, b, p, s, d, e, input scale). Source: Ho and Salimans (arXiv 2207.12598), eq. 6."""

import torch
import triton
import triton.language as tl
from diffexplain_fast.kernels.configs import launch
from torch import Tensor

_GUIDANCE, _SAMPLE, _OUTPUT, _BEFORE, _NOISE, _DATA_SAMPLE, _DATA_OUTPUT = (tl.constexpr(i) for i in range(7))


@triton.jit
def guided_step_fwd_kernel(
    sample_ptr,  # [B, c, h, w], E elements
    output_ptr,  # [B, c, h, w], [2B, c, h, w] if GUIDED
    before_ptr,  # like sample
    noise_ptr,  # like sample
    coefficients_ptr,  # [8]
    following_ptr,  # like sample
    data_ptr,  # like sample
    E,
    GUIDED: tl.constexpr,
    HAS_BEFORE: tl.constexpr,
    HAS_NOISE: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    offs = tl.program_id(0).to(tl.int64) * BLOCK_E + tl.arange(0, BLOCK_E)
    mask = offs < E
    dtype = sample_ptr.dtype.element_ty
    sample = tl.load(sample_ptr + offs, mask=mask, other=0.0)  # [BLOCK_E], as all tiles
    output = tl.load(output_ptr + offs, mask=mask, other=0.0).to(dtype)
    if GUIDED:  # the unconditional rows of output come first
        conditional = tl.load(output_ptr + E + offs, mask=mask, other=0.0).to(dtype)
        output += tl.load(coefficients_ptr + _GUIDANCE) * (conditional - output)
    following = tl.load(coefficients_ptr + _SAMPLE) * sample + tl.load(coefficients_ptr + _OUTPUT) * output
    if HAS_BEFORE:
        following += tl.load(coefficients_ptr + _BEFORE) * tl.load(before_ptr + offs, mask=mask, other=0.0)
    if HAS_NOISE:
        following += tl.load(coefficients_ptr + _NOISE) * tl.load(noise_ptr + offs, mask=mask, other=0.0)
    data = tl.load(coefficients_ptr + _DATA_SAMPLE) * sample + tl.load(coefficients_ptr + _DATA_OUTPUT) * output
    tl.store(following_ptr + offs, following, mask=mask)
    tl.store(data_ptr + offs, data, mask=mask)


@triton.jit
def guided_step_bwd_kernel(
    dfollowing_ptr,  # [B, c, h, w], E elements
    ddata_ptr,  # like dfollowing
    coefficients_ptr,  # [8]
    dsample_ptr,  # like dfollowing
    doutput_ptr,  # [B, c, h, w], [2B, c, h, w] if GUIDED
    dbefore_ptr,  # like dfollowing
    E,
    GUIDED: tl.constexpr,
    HAS_DDATA: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    offs = tl.program_id(0).to(tl.int64) * BLOCK_E + tl.arange(0, BLOCK_E)
    mask = offs < E
    dfollowing = tl.load(dfollowing_ptr + offs, mask=mask, other=0.0)  # [BLOCK_E], as all tiles
    dsample = tl.load(coefficients_ptr + _SAMPLE) * dfollowing
    doutput = tl.load(coefficients_ptr + _OUTPUT) * dfollowing
    if HAS_DDATA:
        ddata = tl.load(ddata_ptr + offs, mask=mask, other=0.0)
        dsample += tl.load(coefficients_ptr + _DATA_SAMPLE) * ddata
        doutput += tl.load(coefficients_ptr + _DATA_OUTPUT) * ddata
    tl.store(dsample_ptr + offs, dsample, mask=mask)
    tl.store(dbefore_ptr + offs, tl.load(coefficients_ptr + _BEFORE) * dfollowing, mask=mask)
    dtype = doutput_ptr.dtype.element_ty
    if GUIDED:
        guidance = tl.load(coefficients_ptr + _GUIDANCE)
        tl.store(doutput_ptr + E + offs, (guidance * doutput).to(dtype), mask=mask)
        doutput *= 1.0 - guidance
    tl.store(doutput_ptr + offs, doutput.to(dtype), mask=mask)


def guided_step_fwd(
    sample: Tensor, output: Tensor, before: Tensor | None, noise: Tensor | None, coefficients: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the following sample and the prediction of the clean sample, both like ``sample`` [B, c, h, w]."""
    following, data = torch.empty_like(sample), torch.empty_like(sample)
    launch(
        "guided_step",
        guided_step_fwd_kernel,
        lambda meta: (triton.cdiv(sample.numel(), meta["BLOCK_E"]),),
        sample_ptr=sample,
        output_ptr=output,
        before_ptr=sample if before is None else before,
        noise_ptr=sample if noise is None else noise,
        coefficients_ptr=coefficients.contiguous(),
        following_ptr=following,
        data_ptr=data,
        E=sample.numel(),
        GUIDED=len(output) != len(sample),
        HAS_BEFORE=before is not None,
        HAS_NOISE=noise is not None,
    )
    return following, data


def guided_step_bwd(
    dfollowing: Tensor, ddata: Tensor | None, coefficients: Tensor, guided: bool, like: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of sample, output ([2B, ...] if guided, dtype of ``like``) and before."""
    rows = (1 + guided) * dfollowing.shape[0]
    doutput = torch.empty((rows, *dfollowing.shape[1:]), dtype=like.dtype, device=dfollowing.device)
    dsample, dbefore = torch.empty_like(dfollowing), torch.empty_like(dfollowing)
    launch(
        "guided_step",
        guided_step_bwd_kernel,
        lambda meta: (triton.cdiv(dfollowing.numel(), meta["BLOCK_E"]),),
        dfollowing_ptr=dfollowing,
        ddata_ptr=dfollowing if ddata is None else ddata,
        coefficients_ptr=coefficients.contiguous(),
        dsample_ptr=dsample,
        doutput_ptr=doutput,
        dbefore_ptr=dbefore,
        E=dfollowing.numel(),
        GUIDED=guided,
        HAS_DDATA=ddata is not None,
    )
    return dsample, doutput, dbefore
