"""Transformer2DModel: self-attention, cross-attention to text whose keys come projected, GEGLU feed-forward."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffexplain_fast.engine.lean.levels import Level
from diffexplain_fast.engine.lean.protocols import TextKeys
from diffexplain_fast.engine.lean.reading import UnsupportedModelError, add_product, known, linear, norm
from diffexplain_fast.ops._autograd import first_order
from diffexplain_fast.ops.group_norm_silu import group_norm_silu
from diffexplain_fast.ops.linear_frozen import PackedLinear
from diffexplain_fast.ops.raw import RawOps

_PROCESSORS = ("AttnProcessor", "AttnProcessor2_0", "XFormersAttnProcessor")
"""Attention processors of diffusers that compute plain attention."""


class Attention:
    """A frozen attention layer.

    Args:
        module: diffusers Attention.
        raw: raw functions to run.
        residual: whether the module itself adds its input and has a norm of its own, as the VAE's does.

    Raises:
        UnsupportedModelError: an option that changes what plain attention computes.
    """

    def __init__(self, module: Any, raw: RawOps, residual: bool = False) -> None:
        known(module, "Attention")
        known(module.processor, *_PROCESSORS)
        extras = ("norm_q", "norm_k", "spatial_norm", "norm_cross", "added_kv_proj_dim")
        if any(getattr(module, name, None) is not None for name in extras) or module.rescale_output_factor != 1.0:
            raise UnsupportedModelError("attention with norms or projections of its own")
        if bool(module.residual_connection) != residual or (module.group_norm is not None) != residual:
            raise UnsupportedModelError("attention with another residual connection")
        self.raw, self.heads, self.scale = raw, module.heads, float(module.scale)
        self.q, self.k, self.v = linear(module.to_q), linear(module.to_k), linear(module.to_v)
        if abs(self.scale - (len(self.q.weight) // self.heads) ** -0.5) > 1e-6:
            # Diffusers' processors for PyTorch 2 ignore it, the others do not.
            raise UnsupportedModelError("attention with a scale of its own")
        self.out = linear(module.to_out[0])
        self.norm = norm(module.group_norm) if residual else None

    def split(self, x: Tensor) -> Tensor:
        """Return [B, N, heads, d] of a projection [B, N, heads d]."""
        return x.unflatten(-1, (self.heads, -1))


class Block:
    """A frozen BasicTransformerBlock.

    Args:
        module: diffusers BasicTransformerBlock with layer norms and GEGLU.
        raw: raw functions to run.

    Raises:
        UnsupportedModelError: another norm, activation or arrangement.
    """

    def __init__(self, module: Any, raw: RawOps) -> None:
        known(module, "BasicTransformerBlock")
        known(module.ff, "FeedForward")
        known(module.ff.net[0], "GEGLU")
        plain = module.norm_type == "layer_norm" and module.pos_embed is None and not module.only_cross_attention
        if not plain or module.attn2 is None:
            raise UnsupportedModelError("a transformer block without layer norms or cross-attention")
        self.raw = raw
        self.norms = [norm(part) for part in (module.norm1, module.norm2, module.norm3)]
        self.attention, self.cross = Attention(module.attn1, raw), Attention(module.attn2, raw)
        self.wide, self.narrow = (PackedLinear(*linear(part)) for part in (module.ff.net[0].proj, module.ff.net[2]))

    def __call__(self, x: Tensor, k: Tensor, v: Tensor, level: Level) -> Tensor:
        """Return [R, N, C] for hidden states x [B, N, C] and text keys and values [R, L, heads, d], R = B or 2B."""
        x = _SelfAttention.apply(x, self, level)
        if len(k) != len(x):
            x = x.repeat(len(k) // len(x), 1, 1)  # the rows of guidance part here
        x = _CrossAttention.apply(x, k, v, self, level)
        return _FeedForward.apply(x, self, level)


class Transformer:
    """A frozen Transformer2DModel over images.

    Args:
        module: diffusers Transformer2DModel.
        raw: raw functions to run.

    Raises:
        UnsupportedModelError: not continuous images, or a block that is not supported.
    """

    def __init__(self, module: Any, raw: RawOps) -> None:
        known(module, "Transformer2DModel")
        if not module.is_input_continuous:
            raise UnsupportedModelError("a Transformer2DModel over patches or classes")
        self.norm = norm(module.norm)
        self.enter, self.leave = linear(module.proj_in), linear(module.proj_out)
        self.blocks = [Block(block, raw) for block in module.transformer_blocks]
        self.impl = raw.chosen("group_norm_silu")

    def __call__(self, x: Tensor, keys: Sequence[TextKeys], level: Level) -> Tensor:
        """Return [R, C, H, W] channels-last for x [B, C, H, W] and each block's text keys and values."""
        n, group = group_norm_silu, self.norm
        h = n(x, group.weight, group.bias, group.groups, group.eps, silu=False, impl=self.impl)
        h = self.enter(h.permute(0, 2, 3, 1).flatten(1, 2))
        for block, (k, v) in zip(self.blocks, keys, strict=True):
            h = block(h, k, v, level)
        h = self.leave(h).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
        return h + (x if len(x) == len(h) else torch.cat([x] * (len(h) // len(x))))


class _SelfAttention(torch.autograd.Function):
    """x + out(attention(norm(x)))."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, block: Block, level: Level) -> Tensor:
        layer, raw = block.attention, block.raw
        n, mean, rstd = _normalise(x, block, 0)
        q, k, v = _project(layer, n)
        o, lse = raw.attention_fwd(q, k, v, layer.scale)
        kept = ((o, lse) if level.keep_attention else ()) + ((q, k, v) if level.keep_qkv else ())
        ctx.save_for_backward(x, mean, rstd, *kept)
        ctx.block = block
        return layer.out(o.flatten(2)).add_(x)

    @staticmethod
    @first_order("the sampler's self-attention")
    def backward(ctx: Any, saved: tuple[Tensor, ...], dy: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, *kept = saved
        block = ctx.block
        layer = block.attention
        do = layer.split(layer.out.backward(dy))
        q, k, v = kept[2:] or _project(layer, _normalise(x, block, 0)[0])
        o, lse = kept[:2] or block.raw.attention_fwd(q, k, v, layer.scale)
        dq, dk, dv = block.raw.attention_bwd(do, q, k, v, o, lse, layer.scale)
        dn = layer.q.backward(dq.flatten(0, 1).flatten(1))
        for weights, gradient in ((layer.k, dk), (layer.v, dv)):
            add_product(dn, gradient.flatten(0, 1).flatten(1), weights.weight)
        return _normalise_backward(dn, x, block, 0, mean, rstd).add_(dy), None, None


class _CrossAttention(torch.autograd.Function):
    """x + out(attention(norm(x), k, v))."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, k: Tensor, v: Tensor, block: Block, level: Level) -> Tensor:
        layer, raw = block.cross, block.raw
        n, mean, rstd = _normalise(x, block, 1)
        q = layer.split(layer.q(n))
        o, lse = raw.attention_fwd(q, k, v, layer.scale)
        kept = ((o, lse) if level.keep_attention else ()) + ((q,) if level.keep_qkv else ())
        ctx.save_for_backward(x, mean, rstd, k, v, *kept)
        ctx.block = block
        return layer.out(o.flatten(2)).add_(x)

    @staticmethod
    @first_order("the sampler's cross-attention")
    def backward(ctx: Any, saved: tuple[Tensor, ...], dy: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, k, v, *kept = saved
        block = ctx.block
        layer = block.cross
        do = layer.split(layer.out.backward(dy))
        q = kept[2] if len(kept) > 2 else layer.split(layer.q(_normalise(x, block, 1)[0]))
        o, lse = kept[:2] or block.raw.attention_fwd(q, k, v, layer.scale)
        dq, dk, dv = block.raw.attention_bwd(do, q, k, v, o, lse, layer.scale)
        dx = _normalise_backward(layer.q.backward(dq.flatten(2)), x, block, 1, mean, rstd).add_(dy)
        return dx, dk, dv, None, None


class _FeedForward(torch.autograd.Function):
    """x + narrow(geglu(wide(norm(x))))."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, block: Block, level: Level) -> Tensor:
        n, mean, rstd = _normalise(x, block, 2)
        h = block.wide.forward(n.flatten(0, 1))
        ctx.save_for_backward(x, mean, rstd, *((h,) if level.keep_projection else ()))
        ctx.block = block
        return block.narrow.forward(block.raw.geglu_fwd(h)).reshape(x.shape).add_(x)

    @staticmethod
    @first_order("the sampler's feed-forward layer")
    def backward(ctx: Any, saved: tuple[Tensor, ...], dy: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, *kept = saved
        block = ctx.block
        h = kept[0] if kept else block.wide.forward(_normalise(x, block, 2)[0].flatten(0, 1))
        dh = block.raw.geglu_bwd(block.narrow.backward(dy.flatten(0, 1)), h)
        return _normalise_backward(block.wide.backward(dh), x, block, 2, mean, rstd).add_(dy), None, None


def _project(layer: Attention, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return layer.split(layer.q(n)), layer.split(layer.k(n)), layer.split(layer.v(n))


def _normalise(x: Tensor, block: Block, number: int) -> tuple[Tensor, Tensor, Tensor]:
    weights = block.norms[number]
    y, mean, rstd = block.raw.layer_norm_fwd(x.flatten(0, 1), weights.weight, weights.bias, weights.eps)
    return y.reshape(x.shape), mean, rstd


def _normalise_backward(dn: Tensor, x: Tensor, block: Block, number: int, mean: Tensor, rstd: Tensor) -> Tensor:
    rows = dn.reshape(-1, x.shape[-1]).contiguous()
    dx = block.raw.layer_norm_bwd(rows, x.flatten(0, 1), block.norms[number].weight, mean, rstd)
    return dx.reshape(x.shape)
