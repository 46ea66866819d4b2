"""Attention that computes and stores every score."""

import torch
from torch import Tensor


def _scores(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """Return scale q k^T [B, H, Nq, Nk] in float32 or float64."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    return scale * q.to(dtype).transpose(1, 2) @ k.to(dtype).permute(0, 2, 3, 1)


def attention_fwd(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return o [B, Nq, H, D] and the log-sum-exp of the scores [B, H, Nq]: see ``ops.attention``."""
    scores = _scores(q, k, scale)
    lse = scores.logsumexp(-1)
    o = (scores - lse[..., None]).exp() @ v.to(scores.dtype).transpose(1, 2)
    # Always a copy: for a .contiguous() without effect, torch 2.11 compiles a gradient of zero.
    return o.transpose(1, 2).to(q.dtype, memory_format=torch.contiguous_format, copy=True), lse


def attention_bwd(
    do: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor | None, lse: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dq, dk and dv.

    With P = exp(S - lse): dv = P^T do, dP = do v^T, dS = P (dP - rowsum(do o)), dq = scale dS k, dk = scale dS^T q.
    Without the output, rowsum(do o) is rowsum(P dP).
    """
    weights = (_scores(q, k, scale) - lse[..., None]).exp()
    qs, ks, vs, dos = (tensor.to(weights.dtype).transpose(1, 2) for tensor in (q, k, v, do))
    gains = dos @ vs.transpose(-1, -2)
    products = weights * gains if o is None else dos * o.to(weights.dtype).transpose(1, 2)
    ds = weights * (gains - products.sum(-1, keepdim=True))
    grads = (scale * ds @ ks, scale * ds.transpose(-1, -2) @ qs, weights.transpose(-1, -2) @ dos)
    dq, dk, dv = (grad.transpose(1, 2).to(q.dtype).contiguous() for grad in grads)
    return dq, dk, dv


def attention_text_bwd(
    do: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor | None, lse: Tensor, scale: float, first: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dq, dk and dv of ``attention_bwd``; dk and dv of the images before ``first`` are zeros."""
    dq, dk, dv = attention_bwd(do, q, k, v, o, lse, scale)
    dk[:first], dv[:first] = 0, 0
    return dq, dk, dv
