"""The lean UNet: a user's UNet2DConditionModel as a function of latents, projected text and time shifts."""

import functools
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.lean.adapters import matrices
from diffexplain_fast.engine.lean.levels import Level, run
from diffexplain_fast.engine.lean.owed import Owed, joined, left_out
from diffexplain_fast.engine.lean.protocols import TextKeys, flat_list, pairs_of
from diffexplain_fast.engine.lean.reading import check_plain, conv, known, norm, silu, unwrapped
from diffexplain_fast.engine.lean.resnet import Resnet
from diffexplain_fast.engine.lean.savings import SAVINGS
from diffexplain_fast.engine.lean.taken import UnsupportedModelError, every_module_taken, take_whole, unsupported
from diffexplain_fast.engine.lean.transformer import Transformer
from diffexplain_fast.engine.lean.upsample import Upsample
from diffexplain_fast.models.frozen import frozen
from diffexplain_fast.ops._register import channels_last
from diffexplain_fast.ops.conv2d_frozen import Convolution
from diffexplain_fast.ops.group_norm_silu import group_norm_silu
from diffexplain_fast.ops.raw import RawOps

_PLAIN: dict[str, object] = {
    "act_fn": "silu",
    "attention_type": "default",
    "class_embed_type": None,
    "center_input_sample": False,
    "dual_cross_attention": False,
    "encoder_hid_dim_type": None,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "resnet_time_scale_shift": "default",
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
}
"""Values of the options for which the UNet is the one built here; a configuration may lack some."""
_KEPT = ("keep", "narrow", "lean", "host", "attend", "block")
_AGAIN = ("costly", "costlier", "costliest", "again", "tight", "step")
"""Levels of a step with its graph, and of a step that is computed again."""
_TIME = ("time_proj", "time_embedding", "add_time_proj", "add_embedding")
"""Modules of a UNet that compute the embedding of a time, and of Stable Diffusion XL's conditions."""
_BLOCKS = ("DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D")


class Stage(NamedTuple):
    """A resolution on the way down or up: residual blocks, each with a transformer or None after it, then resampling.

    Attributes:
        layers: residual blocks, each with the transformer that follows it or None.
        down: strided convolution or None.
        up: upsampling convolution or None.
    """

    layers: list[tuple[Resnet, Transformer | None]]
    down: Convolution | None = None
    up: Upsample | None = None


class LeanUNet:
    """A frozen UNet2DConditionModel, which is a ``Denoiser``; it never keeps the input of a convolution.

    Args:
        unet: diffusers UNet2DConditionModel, also in PEFT's wrapper; its parameters are shared, except convolutions
            that are not channels-last (copied) and upsampling convolutions (packed).
        impl: "auto" or "reference", for every op.
        savings: names from ``SAVINGS``.

    Raises:
        UnsupportedModelError: an option, block or processor that is not known here; the message says which.
    """

    levels, reason = (*_KEPT, *_AGAIN), ""

    def __init__(self, unet: Any, impl: str = "auto", savings: Collection[str] = SAVINGS) -> None:
        self._savings, unet = savings, unwrapped(unet)
        with every_module_taken(unet):
            known(unet, "UNet2DConditionModel")
            check_plain(unet, _PLAIN)
            weight = next(unet.parameters())
            self.unet, self.raw = unet, RawOps(weight.device, weight.dtype, impl)
            self._read()
        if self.raw.adds_in_products:
            self._owe()

    def _read(self) -> None:
        unet = self.unet
        silu(unet.conv_act, "before the last convolution")
        if getattr(unet, "time_embed_act", None) is not None:
            raise UnsupportedModelError("an activation behind the embedding of the time, time_embed_act")
        for part in self._time_modules():
            take_whole(part)
        self.first, self.last = conv(unet.conv_in), conv(unet.conv_out)
        self.norm = norm(unet.conv_norm_out)
        self.down = [self._stage(block) for block in unet.down_blocks]
        middle = unet.mid_block
        known(middle, "UNetMidBlock2DCrossAttn")
        self.middle = [Resnet(module, self.raw) for module in middle.resnets]
        self.attention = [Transformer(module, self.raw) for module in middle.attentions]
        self.up = [self._stage(block) for block in unet.up_blocks]

    def _stage(self, block: Any) -> Stage:
        known(block, *_BLOCKS)
        if getattr(block, "s1", None) is not None:
            raise UnsupportedModelError("FreeU (unet.disable_freeu())")
        attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
        transformers = [None if module is None else Transformer(module, self.raw) for module in attentions]
        layers = list(zip([Resnet(module, self.raw) for module in block.resnets], transformers, strict=True))
        down, up = getattr(block, "downsamplers", None), getattr(block, "upsamplers", None)
        packs, impl = "upsampling" in self._savings, self.raw.chosen("interleave")
        return Stage(layers, read_down(down[0]) if down else None, Upsample(up[0], packs, impl) if up else None)

    def _owe(self) -> None:
        """Let the norms add the biases of the convolutions, in the order in which the UNet calls them; see ``owed``."""
        owed = left_out(self.first)
        skips = [owed]
        for stage in self.down:
            for resnet, transformer in stage.layers:
                last = resnet is stage.layers[-1][0] and stage.down is not None
                owed = _owed_behind(resnet, transformer, owed, last)
                skips.append(owed)
            if stage.down is not None:
                owed = left_out(stage.down)
                skips.append(owed)
        for resnet, transformer in zip(self.middle, [*self.attention, None], strict=True):
            owed = _owed_behind(resnet, transformer, owed, False)
        for stage in self.up:
            for resnet, transformer in stage.layers:
                owed = joined(owed, skips.pop(), len(resnet.norm1.weight))
                last = resnet is stage.layers[-1][0] and (stage.up is not None or stage is self.up[-1])
                owed = _owed_behind(resnet, transformer, owed, last)
            if stage.up is not None:
                owed = stage.up.owe()

    @property
    def implementations(self) -> str:
        """Which implementation of each op runs, and why where it is the reference."""
        return self.raw.described()

    def transformers(self) -> Iterator[Transformer]:
        """Yield the transformers in the order in which the UNet calls them."""
        for stage in self.down:
            yield from (transformer for _, transformer in stage.layers if transformer is not None)
        yield from self.attention
        for stage in self.up:
            yield from (transformer for _, transformer in stage.layers if transformer is not None)

    def resnets(self) -> Iterator[Resnet]:
        """Yield the residual blocks in the order in which the UNet calls them."""
        yield from (resnet for stage in self.down for resnet, _ in stage.layers)
        yield from self.middle
        yield from (resnet for stage in self.up for resnet, _ in stage.layers)

    def trained(self) -> list[Tensor]:
        """Return the matrices of adapters that get a gradient here."""
        transformers = list(self.transformers())
        crosses = [block.cross for transformer in transformers for block in transformer.blocks]
        text = matrices(*(layer.thin for cross in crosses for layer in (cross.k, cross.v)))
        return [*text, *(matrix for transformer in transformers for matrix in transformer.trained)]

    def project(self, embeds: Tensor) -> list[Tensor]:
        """Return text keys and values of every cross-attention, [R, L, heads, d] each, k before v; see ``Denoiser``.

        Their gradients are summed over the steps and then go through the projections once.
        """
        return self._project(embeds) if "text" in self._savings else [embeds]

    def _project(self, embeds: Tensor) -> list[Tensor]:
        layers = [block.cross for transformer in self.transformers() for block in transformer.blocks]
        return flat_list(TextKeys(layer.split(layer.k(embeds)), layer.split(layer.v(embeds))) for layer in layers)

    def shifts(self, timesteps: Tensor, added: dict[str, Tensor] | None) -> list[list[Tensor]]:
        """Return for every step the time shifts of all residual blocks, [1 or R, C] each; see ``Denoiser``."""
        return [self.row_shifts(timestep[None], added) for timestep in timesteps]

    def row_shifts(self, timesteps: Tensor, added: dict[str, Tensor] | None) -> list[Tensor]:
        """Return the time shifts of all residual blocks, [R, C] each, for a time of each row [R], or of one for all.

        The user's own modules compute the embedding; they are frozen meanwhile.
        """
        unet = self.unet
        with frozen(*self._time_modules()):
            embedding = unet.time_embedding(unet.time_proj(timesteps).to(self.first.weight.dtype))
            if added is not None:
                embedding = embedding + unet.get_aug_embed(embedding, embedding, added)
        return [shift for resnet in self.resnets() if (shift := resnet.shift(embedding)) is not None]

    def _time_modules(self) -> list[nn.Module]:
        """Return the user's modules that ``row_shifts`` calls."""
        parts = (getattr(self.unet, name, None) for name in _TIME)
        return [part for part in parts if part is not None]

    def __call__(self, sample: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor], level: Level) -> Tensor:
        """Return the output [R, c, h, w]; equal rows are computed once until they meet the text. See ``Denoiser``."""
        rows = len(text[0])
        text = text if "text" in self._savings else self._project(text[0])
        if "rows" not in self._savings or any(len(shift) not in (1, len(sample)) for shift in shifts):
            sample = sample.repeat(rows // len(sample), 1, 1, 1)
        pairs, time = pairs_of(text), iter(shifts)
        x = channels_last(self.first(channels_last(sample)))
        skips = [x]
        for stage in self.down:
            for resnet, transformer in stage.layers:
                x = _attended(self._forked(level, resnet, skips, next(time)), transformer, pairs, level)
                skips.append(x)
            if stage.down is not None:
                x = channels_last(stage.down(x))
                skips.append(x)
        x = self._forked(level, self.middle[0], skips, next(time))
        for transformer, resnet in zip(self.attention, self.middle[1:], strict=True):
            x = _residual(level, resnet, _attended(x, transformer, pairs, level), None, next(time))
        for stage in self.up:
            for resnet, transformer in stage.layers:
                skip = skips.pop()
                skip = skip if len(skip) == len(x) else torch.cat([skip] * (len(x) // len(skip)))
                x, apart = (x, skip) if "skips" in self._savings else (torch.cat([x, skip], 1), None)
                x = _attended(_residual(level, resnet, x, apart, next(time)), transformer, pairs, level)
            if stage.up is not None:
                x = stage.up(x, skips[-1].shape[2:])
        group, impl = self.norm, self.raw.chosen("group_norm_silu")
        x = group_norm_silu(x, group.weight, group.bias, group.groups, group.eps, impl=impl)
        out = self.last(x)
        return out if len(out) == rows else out.repeat(rows // len(out), 1, 1, 1)

    def _forked(self, level: Level, resnet: Resnet, skips: list[Tensor], shift: Tensor) -> Tensor:
        """Run a residual block on the last tensor so far, which is the last skip connection too."""
        if not self.raw.adds_in_products:
            return _residual(level, resnet, skips[-1], None, shift)
        out, skips[-1] = run(level, functools.partial(resnet.forked, level=level), skips[-1], shift)
        return out


def _owed_behind(resnet: Resnet, transformer: Transformer | None, owed: Owed, last: bool) -> Owed:
    """Return what the output of a layer owes, for what its input owes: nothing where another kind of layer is next."""
    owed = resnet.owe(owed, last and transformer is None)
    if transformer is not None:
        transformer.owe(owed)
        owed = None
    return owed


def _residual(level: Level, resnet: Resnet, x: Tensor, skip: Tensor | None, shift: Tensor) -> Tensor:
    """Run a residual block."""
    return run(level, functools.partial(resnet, level=level), x, skip, shift)


def _attended(x: Tensor, transformer: Transformer | None, pairs: list[TextKeys], level: Level) -> Tensor:
    """Run a transformer, if there is one, and take its pairs of text keys and values from the front of the list."""
    if transformer is None:
        return x
    keys, pairs[:] = pairs[: len(transformer.blocks)], pairs[len(transformer.blocks) :]

    def function(hidden: Tensor, *text: Tensor) -> Tensor:
        return transformer(hidden, pairs_of(text), level)

    return run(level, function, x, *flat_list(keys), trained=transformer.trained)


def read_down(module: Any) -> Convolution:
    """Read a Downsample2D with a convolution of stride 2 and symmetric padding.

    Raises:
        UnsupportedModelError: another kind.
    """
    known(module, "Downsample2D")
    if not module.use_conv or module.norm is not None or module.padding != 1:
        raise unsupported(module, "a Downsample2D without convolution, or with uneven padding")
    return conv(module.conv)
