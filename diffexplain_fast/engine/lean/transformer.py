"""Transformer2DModel: self-attention, cross-attention to projected text, GEGLU feed-forward."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffexplain_fast.engine.lean.adapters import adapted, adapted_backward, matrices, matrix_gradients
from diffexplain_fast.engine.lean.levels import Level
from diffexplain_fast.engine.lean.norms import group_normed, group_normed_copy
from diffexplain_fast.engine.lean.owed import Owed
from diffexplain_fast.engine.lean.protocols import TextKeys
from diffexplain_fast.engine.lean.reading import add_product, known, linear, norm, packed
from diffexplain_fast.engine.lean.residual import Leave, end_of, entered, normalise, normalise_backward
from diffexplain_fast.engine.lean.taken import unsupported
from diffexplain_fast.ops._autograd import Context, PairFunction, TensorFunction, first_order
from diffexplain_fast.ops._register import channels_last
from diffexplain_fast.ops.linear_frozen import PackedLinear
from diffexplain_fast.ops.raw import RawOps

_PROCESSORS = ("AttnProcessor", "AttnProcessor2_0", "XFormersAttnProcessor")
"""Attention processors of diffusers that compute plain attention."""


class Attention:
    """A frozen attention layer.

    Args:
        module: diffusers Attention.
        raw: raw functions to run.
        residual: whether the module adds its input and has a norm of its own, as in the VAE.
        packs: whether queries, keys and values of one tensor may be one product, with a copy of their weights.

    Raises:
        UnsupportedModelError: an option that changes what plain attention computes.
    """

    def __init__(self, module: Any, raw: RawOps, residual: bool = False, packs: bool = False) -> None:
        known(module, "Attention")
        known(module.processor, *_PROCESSORS)
        extras = ("norm_q", "norm_k", "spatial_norm", "norm_cross", "added_kv_proj_dim")
        if any(getattr(module, name, None) is not None for name in extras) or module.rescale_output_factor != 1.0:
            raise unsupported(module, "attention with norms or projections of its own")
        if bool(module.residual_connection) != residual or (module.group_norm is not None) != residual:
            raise unsupported(module, "attention with another residual connection")
        self.raw, self.heads, self.scale = raw, module.heads, float(module.scale)
        self.q, self.k, self.v = linear(module.to_q), linear(module.to_k), linear(module.to_v)
        if abs(self.scale - (len(self.q.weight) // self.heads) ** -0.5) > 1e-6:
            # Diffusers' processors for PyTorch 2 ignore the scale, the others do not.
            raise unsupported(module, "attention with a scale of its own")
        self.out = linear(module.to_out[0])
        self.packed = packed(self.q, self.k, self.v) if packs and raw.packs_projections else None
        self.norm = norm(module.group_norm) if residual else None

    def split(self, x: Tensor) -> Tensor:
        """Return [B, N, heads, d] of a projection [B, N, heads d]."""
        return torch.unflatten(x, -1, (self.heads, -1))


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
            raise unsupported(module, "a transformer block without layer norms or cross-attention")
        self.raw = raw
        self.norms = [norm(layer_norm) for layer_norm in (module.norm1, module.norm2, module.norm3)]
        self.attention, self.cross = Attention(module.attn1, raw, packs=True), Attention(module.attn2, raw)
        wide, narrow = linear(module.ff.net[0].proj), linear(module.ff.net[2])
        self.wide, self.narrow = (PackedLinear(layer.weight, layer.bias) for layer in (wide, narrow))
        self.wide_thin, self.narrow_thin = wide.thin, narrow.thin
        layer, cross = self.attention, self.cross
        self.ends = (*(end_of(each.out, each.out.thin) for each in (layer, cross)), end_of(self.narrow, narrow.thin))
        # Autograd sees the matrices of `cross.k` and `cross.v` where the text is projected, and not here.
        self.trained = (
            matrices(layer.q.thin, layer.k.thin, layer.v.thin, layer.out.thin),
            matrices(cross.q.thin, cross.out.thin),
            matrices(wide.thin, narrow.thin),
        )

    def __call__(self, x: Tensor, k: Tensor, v: Tensor, level: Level) -> Tensor:
        """Return hidden states [R, N, C] for those of the block before [B, N, C].

        Args:
            x: hidden states.
            k: text keys [R, L, heads, d], R = B or 2B.
            v: text values, as k.
            level: storage level.
        """
        x = _SelfAttention.apply(x, self, level, *self.trained[0])
        if len(k) != len(x):
            x = x.repeat(len(k) // len(x), 1, 1)  # from here on, the rows of guidance differ
        x = _CrossAttention.apply(x, k, v, self, level, *self.trained[1])
        return _FeedForward.apply(x, self, level, *self.trained[2])


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
            raise unsupported(module, "a Transformer2DModel over patches or classes")
        self.norm = norm(module.norm)
        self.enter, self.leave = linear(module.proj_in), linear(module.proj_out)
        self.blocks = [Block(block, raw) for block in module.transformer_blocks]
        self.raw = raw
        self.entering: Tensor | None = None
        if raw.adds_in_products:
            self.offset, self.leave = end_of(self.leave, ()).offset, self.leave._replace(bias=None)
        self.trained = [matrix for block in self.blocks for group in block.trained for matrix in group]

    def owe(self, owed: Owed) -> None:
        """Let the norm add what the input owes, also to the path around; see ``owed``."""
        self.entering = None if owed is None else owed.to(self.norm.weight.dtype)[None]

    def __call__(self, x: Tensor, keys: Sequence[TextKeys], level: Level) -> Tensor:
        """Return [R, C, H, W] channels-last for x [B, C, H, W] and each block's text keys and values."""
        h, around = _Enter.apply(channels_last(x), self, level)
        h = self.enter(h.permute(0, 2, 3, 1).flatten(1, 2))
        for block, (k, v) in zip(self.blocks, keys, strict=True):
            h = block(h, k, v, level)
        if len(around) != len(h):
            around = torch.cat([around] * (len(h) // len(around)))
        if self.raw.adds_in_products and not self.leave.thin:
            return Leave.apply(h, around, self.leave)
        return around + torch.unflatten(self.leave(h), 1, x.shape[2:]).permute(0, 3, 1, 2)


class _Enter(PairFunction):
    """The norm of x, and x itself for the path around the transformer, so that one backward adds both gradients.

    Where ``Leave`` writes over it, the second is a copy of x plus what x owes and the bias of the last projection.
    """

    @staticmethod
    def forward(ctx: Context, x: Tensor, transformer: Transformer, level: Level) -> tuple[Tensor, Tensor]:
        raw, norm, entering = transformer.raw, transformer.norm, transformer.entering
        if raw.adds_in_products:
            y, mean, rstd, around = group_normed_copy(level, raw, x, entering, norm, False, transformer.offset)
        else:
            y, mean, rstd = group_normed(level, raw, x, None, entering, norm, False)
            around = x[:]  # ``view_as`` would lose the layout of one image
        ctx.save_for_backward(x, mean, rstd)
        ctx.transformer = transformer
        return y, around

    @staticmethod
    @first_order("the sampler's transformer")
    def backward(ctx: Context, saved: tuple[Tensor, ...], dy: Tensor, around: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd = saved
        raw, norm, entering = ctx.transformer.raw, ctx.transformer.norm, ctx.transformer.entering
        grads = channels_last(dy), channels_last(around)
        return raw.group_norm_bwd_add(grads[0], x, entering, norm, mean, rstd, False, grads[1]), None, None


class _SelfAttention(TensorFunction):
    """x + out(attention(norm(x))); trained matrices are arguments, so that autograd sees them."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, block: Block, level: Level, *trained: Tensor) -> Tensor:
        layer, raw = block.attention, block.raw
        n, mean, rstd, copy = entered(x, raw, block.norms[0], block.ends[0])
        products = _project(layer, n) if level.keeps_product(x.shape[-1]) else ()
        # 2 multiply-adds for each key and each element of the result.
        o, lse = level.kept(4 * x.shape[1], lambda _: raw.attention_fwd(*(products or _project(layer, n)), layer.scale))
        kept = ((o, lse) if level.keep_attention else ()) + products
        ctx.save_for_backward(x, mean, rstd, *trained, *kept)
        ctx.block, ctx.trained = block, len(trained)
        return block.ends[0].added(o.flatten(0, 1).flatten(1), x, copy)

    @staticmethod
    @first_order("the sampler's self-attention")
    def backward(ctx: Context, saved: tuple[Tensor, ...], dy: Tensor) -> tuple[Tensor | None, ...]:
        (x, mean, rstd), kept = saved[:3], saved[3 + ctx.trained :]
        block = ctx.block
        layer = block.attention
        do = layer.split(layer.out.backward(dy))
        # n is read only if it is computed.
        n = x if kept[2:] and not ctx.trained else normalise(x, block.raw, block.norms[0])[0]
        q, k, v = kept[2:] or _project(layer, n)
        o, lse = kept[:2] or block.raw.attention_fwd(q, k, v, layer.scale)
        dq, dk, dv = (
            grad.flatten(0, 1).flatten(1) for grad in block.raw.attention_bwd(do, q, k, v, o, lse, layer.scale)
        )
        dn = layer.q.backward(dq)
        for projection, gradient in ((layer.k, dk), (layer.v, dv)):
            add_product(dn, gradient, projection.weight)
            adapted_backward(dn, gradient, projection.thin)
        inputs = [(projection.thin, n, grad) for projection, grad in ((layer.q, dq), (layer.k, dk), (layer.v, dv))]
        grads = matrix_gradients(*inputs, (layer.out.thin, o.flatten(2), dy)) if ctx.trained else []
        return normalise_backward(dn, x, block.raw, block.norms[0], (mean, rstd), dy), None, None, *grads


class _CrossAttention(TensorFunction):
    """x + out(attention(norm(x), k, v)); trained matrices as in ``_SelfAttention``.

    Where the backward reads no output, the queries, of the same size, are kept in its place.
    """

    @staticmethod
    def forward(ctx: Context, x: Tensor, k: Tensor, v: Tensor, block: Block, level: Level, *trained: Tensor) -> Tensor:
        layer, raw = block.cross, block.raw
        n, mean, rstd, copy = entered(x, raw, block.norms[1], block.ends[1])
        q = layer.split(layer.q(n))
        o, lse = raw.attention_fwd(q, k, v, layer.scale)
        ctx.by_output = raw.reads_output(q, k)
        if ctx.by_output:
            kept = ((o, lse) if level.keep_attention else ()) + ((q,) if level.keeps_product(x.shape[-1]) else ())
        else:
            kept = (lse, q) if level.keep_attention or level.keeps_product(x.shape[-1]) else (lse,)
        ctx.save_for_backward(x, mean, rstd, k, v, *trained, *kept)
        ctx.block, ctx.trained, ctx.silent = block, len(trained), len(k) // 2 if level.text_apart else 0
        return block.ends[1].added(o.flatten(0, 1).flatten(1), x, copy)

    @staticmethod
    @first_order("the sampler's cross-attention")
    def backward(ctx: Context, saved: tuple[Tensor, ...], dy: Tensor) -> tuple[Tensor | None, ...]:
        (x, mean, rstd, k, v), kept = saved[:5], saved[5 + ctx.trained :]
        block = ctx.block
        layer = block.cross
        do = layer.split(layer.out.backward(dy))
        output, queries = (kept[:2], kept[2:]) if ctx.by_output else ((None, kept[0]), kept[1:])
        n = x if queries and not ctx.trained else normalise(x, block.raw, block.norms[1])[0]  # as in self-attention
        q = queries[0] if queries else layer.split(layer.q(n))
        o, lse = output or block.raw.attention_fwd(q, k, v, layer.scale)
        dq, dk, dv = block.raw.attention_bwd(do, q, k, v, o, lse, layer.scale, ctx.silent)
        dq, grads = dq.flatten(2), []
        if ctx.trained:
            o = block.raw.attention_fwd(q, k, v, layer.scale)[0] if o is None else o
            grads = matrix_gradients((layer.q.thin, n, dq), (layer.out.thin, o.flatten(2), dy))
        dx = normalise_backward(layer.q.backward(dq), x, block.raw, block.norms[1], (mean, rstd), dy)
        return dx, dk, dv, None, None, *grads


class _FeedForward(TensorFunction):
    """x + narrow(geglu(wide(norm(x)))); trained matrices as in ``_SelfAttention``."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, block: Block, level: Level, *trained: Tensor) -> Tensor:
        products: list[Tensor] = []  # if the output comes from the shelf, the backward computes the product

        def layer(_: Level) -> tuple[Tensor, ...]:
            n, mean, rstd, copy = entered(x, block.raw, block.norms[2], block.ends[2])
            n = n.flatten(0, 1)
            h = adapted(block.wide.forward(n), n, block.wide_thin)
            products.extend((h,) if level.keeps_product(x.shape[-1]) else ())
            return block.ends[2].added(block.raw.geglu_fwd(h), x, copy), mean, rstd

        out, mean, rstd = level.kept(2 * block.narrow.weight.shape[1], layer)
        ctx.save_for_backward(x, mean, rstd, *trained, *products)
        ctx.block, ctx.trained = block, len(trained)
        return out

    @staticmethod
    @first_order("the sampler's feed-forward layer")
    def backward(ctx: Context, saved: tuple[Tensor, ...], dy: Tensor) -> tuple[Tensor | None, ...]:
        (x, mean, rstd), kept = saved[:3], saved[3 + ctx.trained :]
        block, grads, rows = ctx.block, [], dy.flatten(0, 1)
        n = x if kept and not ctx.trained else normalise(x, block.raw, block.norms[2])[0].flatten(0, 1)
        h = kept[0] if kept else adapted(block.wide.forward(n), n, block.wide_thin)
        dgated = adapted_backward(block.narrow.backward(rows), rows, block.narrow_thin)
        dh = block.raw.geglu_bwd(dgated, h)
        if ctx.trained:
            gated = block.raw.geglu_fwd(h) if block.narrow_thin else rows
            grads = matrix_gradients((block.wide_thin, n, dh), (block.narrow_thin, gated, rows))
        dn = adapted_backward(block.wide.backward(dh), dh, block.wide_thin)
        return normalise_backward(dn, x, block.raw, block.norms[2], (mean, rstd), dy), None, None, *grads


def _project(layer: Attention, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if layer.packed is not None:
        q, k, v = layer.packed(n).chunk(3, -1)
        return layer.split(q), layer.split(k), layer.split(v)
    return layer.split(layer.q(n)), layer.split(layer.k(n)), layer.split(layer.v(n))
