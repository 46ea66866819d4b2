"""Mean and deviation of the norms, also for numbers whose squares overflow their dtype."""

import torch
from torch import Tensor

_SMALLER = 2.0**-540
"""Factor for float64 numbers whose squares would overflow."""


def statistics(rows: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return mean and 1 / sqrt(variance + eps) over the last dimension, summed in float64, in the dtype of the rows.

    Args:
        rows: [..., D], float32 or float64.
        eps: added to the variance.
    """
    count = rows.shape[-1]
    mean = rows.mean(-1, dtype=torch.float64).to(rows.dtype)
    centred = rows - mean[..., None]
    rstd = (_norm(centred).square() / count + eps).rsqrt()
    if rows.dtype == torch.float64:
        scaled = _SMALLER * count**0.5 / _norm(centred * _SMALLER)
        rstd = torch.where(rstd == 0, scaled, rstd)
    return mean, rstd.to(rows.dtype)


def _norm(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float64)
