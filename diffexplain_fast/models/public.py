"""Public model configurations by name, as UNets and VAEs with random weights or on "meta", for counting and
measuring."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch

from diffexplain_fast.errors import unknown_name

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel


class PublicModel(NamedTuple):
    """A public text-to-image model's configuration.

    Attributes:
        unet: options of diffusers' UNet2DConditionModel that differ from its defaults.
        vae: options of diffusers' AutoencoderKL.
        tokens: number of tokens of the text.
    """

    unet: Mapping[str, object]
    vae: Mapping[str, object]
    tokens: int = 77


_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
PUBLIC = {
    "sd15": PublicModel({"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}, _VAE),
    "sd21": PublicModel(
        {
            "sample_size": 96,
            "cross_attention_dim": 1024,
            "attention_head_dim": [5, 10, 20, 20],
            "use_linear_projection": True,
        },
        _VAE,
    ),
    "sdxl": PublicModel(
        {
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": [1, 2, 10],
            "attention_head_dim": [5, 10, 20],
            "cross_attention_dim": 2048,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
            "use_linear_projection": True,
        },
        {**_VAE, "scaling_factor": 0.13025},
    ),
}
"""Stable Diffusion 1.5 (512 pixels), 2.1 (768 pixels) and XL (1024 pixels)."""


def public_models(
    name: str, dtype: torch.dtype, device: torch.device | str = "meta"
) -> "tuple[UNet2DConditionModel, AutoencoderKL]":
    """Return a frozen channels-last UNet and VAE of a public configuration, with random weights (none on "meta").

    Args:
        name: key of ``PUBLIC``.
        dtype: dtype of the weights.
        device: device of the weights.

    Raises:
        UnknownNameError: no such configuration.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel

    if name not in PUBLIC:
        raise unknown_name("model", name, PUBLIC)
    with torch.device(device):
        models = UNet2DConditionModel(**PUBLIC[name].unet), AutoencoderKL(**PUBLIC[name].vae)
    for model in models:
        # The module's own, because that of diffusers warns of modules to be kept in float32 also where there are none.
        torch.nn.Module.to(model, dtype)
        model.to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return models
