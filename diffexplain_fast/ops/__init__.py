"""Operations for frozen networks: they compute only the input's gradient and keep as little for it as possible."""

from diffexplain_fast.ops.attention import attention
from diffexplain_fast.ops.conv2d_frozen import conv2d_frozen
from diffexplain_fast.ops.doctor import implementations
from diffexplain_fast.ops.geglu import geglu
from diffexplain_fast.ops.group_norm_silu import group_norm_silu
from diffexplain_fast.ops.guided_step import GuidedStep, guided_step
from diffexplain_fast.ops.layer_norm import layer_norm
from diffexplain_fast.ops.linear_frozen import linear_frozen
from diffexplain_fast.ops.resize_normalize import resize, resize_normalize
from diffexplain_fast.ops.upsample_conv import SubpixelWeight, pack_subpixel, upsample_conv

__all__ = [
    "GuidedStep",
    "SubpixelWeight",
    "attention",
    "conv2d_frozen",
    "geglu",
    "group_norm_silu",
    "guided_step",
    "implementations",
    "layer_norm",
    "linear_frozen",
    "pack_subpixel",
    "resize",
    "resize_normalize",
    "upsample_conv",
]
