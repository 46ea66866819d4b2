"""The demands of Stable Diffusion XL's UNet and VAE on a sampler that 1.x and 2.x do not have."""

from typing import TYPE_CHECKING

import torch

from diffexplain_fast.errors import wrong_value
from diffexplain_fast.models.frozen import copied, trainable

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel


def pooled_width(unet: "UNet2DConditionModel") -> int | None:
    """Return the width of the pooled text that an XL UNet reads, or None if its configuration does not say it.

    Args:
        unet: diffusers UNet2DConditionModel with ``addition_embed_type`` "text_time".
    """
    whole = getattr(unet.config, "projection_class_embeddings_input_dim", None)
    each = getattr(unet.config, "addition_time_embed_dim", None)
    return None if whole is None or each is None else whole - 6 * each


def decodes_in_float32(unet: "UNet2DConditionModel", vae: "AutoencoderKL") -> bool:
    """Return whether diffusers' pipeline of this UNet encodes and decodes with a float16 VAE in float32, because it
    overflows in float16.

    The XL pipelines do so if the VAE's configuration has ``force_upcast``; those of 1.x and 2.x never do.

    Args:
        unet: diffusers UNet2DConditionModel.
        vae: diffusers AutoencoderKL.
    """
    xl = getattr(unet.config, "addition_embed_type", None) == "text_time"
    asks = getattr(vae.config, "force_upcast", False)
    return bool(xl and asks and next(vae.parameters()).dtype == torch.float16)


def decoded_dtype(unet: "UNet2DConditionModel", vae: "AutoencoderKL") -> torch.dtype:
    """Return the dtype of the images that a VAE decodes.

    Args:
        unet: as in ``decodes_in_float32``.
        vae: as there.
    """
    return torch.float32 if decodes_in_float32(unet, vae) else next(vae.parameters()).dtype


def decoding_vae(unet: "UNet2DConditionModel", vae: "AutoencoderKL") -> "AutoencoderKL":
    """Return the VAE that decodes: the given one, or a frozen float32 copy without its encoder.

    Args:
        unet: as in ``decodes_in_float32``.
        vae: as there; never changed.

    Raises:
        ValueError: a copy is needed, and weights of the VAE are to get a gradient.
    """
    if not decodes_in_float32(unet, vae):
        return vae
    if trainable(vae):
        wanted = "frozen weights (vae.requires_grad_(False)) or float32 ones, as it decodes on a float32 copy"
        raise wrong_value("vae", wanted, "trainable weights in float16")
    unused = (getattr(vae, "encoder", None), getattr(vae, "quant_conv", None))
    return copied(vae, unused).requires_grad_(False).float()


def encoding_vae(unet: "UNet2DConditionModel", vae: "AutoencoderKL") -> "AutoencoderKL":
    """Return the VAE that encodes without a gradient: the given one, or a float32 copy without its decoder.

    Args:
        unet: as in ``decodes_in_float32``.
        vae: as there; never changed.
    """
    if not decodes_in_float32(unet, vae):
        return vae
    unused = (getattr(vae, "decoder", None), getattr(vae, "post_quant_conv", None))
    return copied(vae, unused).float()
