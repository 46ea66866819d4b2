"""The path around the layers of a transformer: hidden states are one tensor, or two that the next norm adds.

On a GPU the sum of a layer's result and its input would be a launch of its own, which writes what the next norm reads
at once. So a layer returns both, and the norm adds them, with the same bits. Their gradients are one tensor.
"""

from torch import Tensor

from diffexplain_fast.engine.lean.reading import Norm
from diffexplain_fast.ops.raw import RawOps

Pair = tuple[Tensor, Tensor | None]
"""Hidden states: one tensor and None, or two to add."""


def added(x: Tensor, more: Tensor | None, raw: RawOps, norm: Norm) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return hidden states [B, N, C], their norm, and the mean and rstd [B N] of each row.

    Args:
        x: hidden states, or the first of two tensors to add.
        more: the second, or None.
        raw: raw functions to run.
        norm: the layer norm.
    """
    if more is None:
        return x, *normalise(x, raw, norm)
    rows = x.flatten(0, 1), more.flatten(0, 1)
    y, mean, rstd, summed = raw.layer_norm_fwd_add(rows[0], norm.weight, norm.bias, norm.eps, rows[1])
    return summed.reshape(x.shape), y.reshape(x.shape), mean, rstd


def normalise(x: Tensor, raw: RawOps, norm: Norm) -> tuple[Tensor, Tensor, Tensor]:
    """Return the norm of x [B, N, C], and mean and rstd of each row."""
    y, mean, rstd = raw.layer_norm_fwd(x.flatten(0, 1), norm.weight, norm.bias, norm.eps)
    return y.reshape(x.shape), mean, rstd


def normalise_backward(
    dn: Tensor, x: Tensor, raw: RawOps, norm: Norm, statistics: tuple[Tensor, Tensor], around: Tensor
) -> Tensor:
    """Return the gradient of x through a norm, dn behind it, plus that of the path around it.

    Args:
        dn: gradient of the norm's result.
        x: input of the norm [B, N, C].
        raw: raw functions to run.
        norm: the layer norm.
        statistics: mean and rstd of each row.
        around: gradient of the path around the layer.
    """
    rows, more = (grad.reshape(-1, x.shape[-1]).contiguous() for grad in (dn, around))
    return raw.layer_norm_bwd_add(rows, x.flatten(0, 1), norm.weight, *statistics, more).reshape(x.shape)


def beside(out: Tensor, x: Tensor, raw: RawOps) -> Pair:
    """Return a layer's result and its input, to be added by the next norm, or added here where that saves nothing.

    Args:
        out: result of the layer, which may be overwritten.
        x: input of the layer.
        raw: raw functions that run.
    """
    return (out, x.view_as(x)) if raw.adds_first else (out.add_(x), None)


def total(x: Tensor, more: Tensor | None) -> Tensor:
    """Return hidden states as one tensor."""
    return x if more is None else x + more
