"""The demands of Stable Diffusion XL's UNet and VAE on a sampler that 1.x and 2.x do not have."""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

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


class LatentScale(NamedTuple):
    """What is between the latents of a denoiser and those of its VAE.

    Attributes:
        factor: by which the denoiser's latents are divided, a number or [1, c, 1, 1].
        shift: what is added then, a number or [1, c, 1, 1].
    """

    factor: float | Tensor
    shift: float | Tensor

    def to_vae(self, latents: Tensor) -> Tensor:
        """Return what the VAE decodes for latents [B, c, h, w] of the denoiser."""
        factor, shift = (value.to(latents) if isinstance(value, Tensor) else value for value in self)
        return latents / factor + shift

    def of_vae(self, latents: Tensor) -> Tensor:
        """Return the denoiser's latents for those that the VAE encodes [B, c, h, w]."""
        factor, shift = (value.to(latents) if isinstance(value, Tensor) else value for value in self)
        return (latents - shift) * factor


def latent_scale(unet: "UNet2DConditionModel", vae: "AutoencoderKL") -> LatentScale:
    """Return the scale by which diffusers' pipeline of this UNet decodes.

    All pipelines divide by ``scaling_factor``. Those of XL also apply ``latents_mean`` and ``latents_std`` where the
    VAE has both. None of them reads ``shift_factor``, which belongs to later families, such as Stable Diffusion 3.

    Args:
        unet: diffusers UNet2DConditionModel.
        vae: diffusers AutoencoderKL.
    """
    factor: float = vae.config.scaling_factor
    mean, std = (getattr(vae.config, name, None) for name in ("latents_mean", "latents_std"))
    if not _is_xl(unet) or mean is None or std is None:
        return LatentScale(factor, 0.0)
    device = next(vae.parameters()).device
    wide = torch.float32 if device.type == "mps" else torch.float64  # Metal has no float64
    shift, spread = (torch.tensor(values, dtype=wide, device=device).view(1, -1, 1, 1) for values in (mean, std))
    return LatentScale(factor / spread, shift)


def _is_xl(unet: "UNet2DConditionModel") -> bool:
    return getattr(unet.config, "addition_embed_type", None) == "text_time"


def decodes_in_float32(unet: "UNet2DConditionModel", vae: "AutoencoderKL") -> bool:
    """Return whether diffusers' pipeline of this UNet encodes and decodes with a float16 VAE in float32, because it
    overflows in float16.

    The XL pipelines do so if the VAE's configuration has ``force_upcast``; those of 1.x and 2.x never do.

    Args:
        unet: diffusers UNet2DConditionModel.
        vae: diffusers AutoencoderKL.
    """
    asks = getattr(vae.config, "force_upcast", False)
    return bool(_is_xl(unet) and asks and next(vae.parameters()).dtype == torch.float16)


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
