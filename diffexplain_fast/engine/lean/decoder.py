"""The lean VAE decoder: a user's AutoencoderKL from latents to images, recomputed block by block."""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffexplain_fast.engine.lean.banded import Stage
from diffexplain_fast.engine.lean.levels import Level, run
from diffexplain_fast.engine.lean.reading import check_plain, conv, known, linear, norm, silu, unwrapped
from diffexplain_fast.engine.lean.resnet import Resnet
from diffexplain_fast.engine.lean.taken import UnsupportedModelError, every_module_taken
from diffexplain_fast.engine.lean.transformer import Attention
from diffexplain_fast.engine.lean.upsample import read_up
from diffexplain_fast.models.xl import LatentScale
from diffexplain_fast.ops._register import channels_last
from diffexplain_fast.ops.attention import attention
from diffexplain_fast.ops.group_norm_silu import group_norm_silu
from diffexplain_fast.ops.raw import RawOps
from diffexplain_fast.ops.upsample_conv import upsample_conv

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


class LeanDecoder:
    """A frozen AutoencoderKL decoder, which is a ``Decoder``.

    Args:
        vae: diffusers AutoencoderKL, also in PEFT's wrapper; its parameters are shared as ``LeanUNet`` shares them.
        impl: "auto" or "reference", for every op.
        scale: of the latents; None for the VAE's scaling factor alone.

    Raises:
        UnsupportedModelError: an option or block that is not known here.
    """

    levels, reason = ("keep", "slim", "apart", "block", "bands"), ""

    def __init__(self, vae: "AutoencoderKL", impl: str = "auto", scale: LatentScale | None = None) -> None:
        vae = unwrapped(vae)
        known(vae, "AutoencoderKL")
        check_plain(vae, {"act_fn": "silu"})
        if getattr(vae, "use_tiling", False) or getattr(vae, "use_slicing", False):
            raise UnsupportedModelError("a tiled or sliced VAE (vae.disable_tiling(), vae.disable_slicing())")
        weight = next(vae.parameters())
        self.raw = RawOps(weight.device, weight.dtype, impl)
        factor, offset = scale or LatentScale(vae.config.scaling_factor, 0.0)
        wide = torch.promote_types(weight.dtype, torch.float32)  # of the latents
        self.scale, self.offset = (
            value.to(wide) if isinstance(value, Tensor) else value for value in (1 / factor, offset)
        )
        parts = [part for part in (vae.post_quant_conv, vae.decoder) if part is not None]
        with every_module_taken(vae, *parts):
            self._read(vae)
        before = self.up[-2][1] if len(self.up) > 1 else None
        self.stage = Stage(before, self.up[-1][0], self.norm, self.last, self.raw.chosen("interleave"))

    def _read(self, vae: "AutoencoderKL") -> None:
        decoder = vae.decoder
        known(decoder, "Decoder")
        known(decoder.mid_block, "UNetMidBlock2D")
        for block in decoder.up_blocks:
            known(block, "UpDecoderBlock2D")
        silu(decoder.conv_act, "before the last convolution")
        self.quant = None if vae.post_quant_conv is None else linear(vae.post_quant_conv)
        self.first, self.last = conv(decoder.conv_in), conv(decoder.conv_out)
        self.middle = [Resnet(block, self.raw) for block in decoder.mid_block.resnets]
        layers = decoder.mid_block.attentions
        self.attention = [None if layer is None else Attention(layer, self.raw, residual=True) for layer in layers]
        self.up = [
            (
                [Resnet(resnet, self.raw) for resnet in block.resnets],
                read_up(block.upsamplers[0]) if block.upsamplers else None,
            )
            for block in decoder.up_blocks
        ]
        self.norm = norm(decoder.conv_norm_out)

    @property
    def implementations(self) -> str:
        """Which implementation of each op runs, and why where it is the reference."""
        return self.raw.described()

    def __call__(self, latents: Tensor, level: Level) -> Tensor:
        """Return images [B, 3, H, W], about [0, 1] and unclamped; see ``Decoder``."""
        if level.apart:
            alone = replace(level, apart=False, keep_blocks=True)
            return torch.cat([run(level, lambda one: self._images(one, alone), one) for one in torch.split(latents, 1)])
        return self._images(latents, level)

    def _images(self, latents: Tensor, level: Level) -> Tensor:
        x = (latents * self.scale + self.offset).to(self.first.weight.dtype)
        if self.quant is not None:
            x = self.quant(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = channels_last(self.first(channels_last(x)))
        x = _residual(level, self.middle[0], x)
        for layer, resnet in zip(self.attention, self.middle[1:], strict=True):
            x = x if layer is None else run(level, lambda pixels, layer=layer: self._attend(layer, pixels), x)
            x = _residual(level, resnet, x)
        for number, (resnets, up) in enumerate(self.up):
            if level.in_bands and number == len(self.up) - 1:
                return self.stage(x) / 2 + 0.5
            for resnet in resnets:
                x = _residual(level, resnet, x)
            if up is not None and not (level.in_bands and number == len(self.up) - 2):
                x = upsample_conv(x, up, impl=self.raw.chosen("interleave"))
        return run(level, self._leave, x) / 2 + 0.5

    def _attend(self, layer: Attention, x: Tensor) -> Tensor:
        group = layer.norm
        assert group is not None
        impl = self.raw.chosen("group_norm_silu")
        h = group_norm_silu(x, group.weight, group.bias, group.groups, group.eps, silu=False, impl=impl)
        h = h.permute(0, 2, 3, 1).flatten(1, 2)
        q, k, v = (layer.split(project(h)) for project in (layer.q, layer.k, layer.v))
        impl = "reference" if self.raw.chosen("attention") == "reference" else "sdpa"
        h = layer.out(attention(q, k, v, layer.scale, impl=impl).flatten(2))
        return x + torch.unflatten(h, 1, x.shape[2:]).permute(0, 3, 1, 2)

    def _leave(self, x: Tensor) -> Tensor:
        group, impl = self.norm, self.raw.chosen("group_norm_silu")
        x = group_norm_silu(x, group.weight, group.bias, group.groups, group.eps, impl=impl)
        return self.last(x)


def _residual(level: Level, resnet: Resnet, x: Tensor) -> Tensor:
    return run(level, lambda pixels: resnet(pixels, level=level), x)
