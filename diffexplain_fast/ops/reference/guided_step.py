"""Guidance and one linear sampler step written out."""

import torch
from torch import Tensor


def guided_step_fwd(
    sample: Tensor, output: Tensor, before: Tensor | None, noise: Tensor | None, coefficients: Tensor
) -> tuple[Tensor, Tensor]:
    """Return x_{i+1} and the prediction of the clean sample, both like ``sample``: see ``ops.guided_step``."""
    guidance, of_sample, of_output, of_before, of_noise, data_sample, data_output, _ = coefficients
    output = output.to(sample.dtype)
    if output.shape[0] != sample.shape[0]:
        unconditional, conditional = output.chunk(2)
        output = unconditional + guidance * (conditional - unconditional)
    following = of_sample * sample + of_output * output
    if before is not None:
        following = following + of_before * before
    if noise is not None:
        following = following + of_noise * noise
    return following, data_sample * sample + data_output * output


def guided_step_bwd(
    dfollowing: Tensor, ddata: Tensor | None, coefficients: Tensor, guided: bool, like: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of sample, output (in the dtype of ``like``) and before."""
    guidance, of_sample, of_output, of_before, _, data_sample, data_output, _ = coefficients
    dsample, doutput = of_sample * dfollowing, of_output * dfollowing
    if ddata is not None:
        dsample, doutput = dsample + data_sample * ddata, doutput + data_output * ddata
    if guided:
        doutput = torch.cat([(1 - guidance) * doutput, guidance * doutput])
    return dsample, doutput.to(like.dtype), of_before * dfollowing
