"""The models of an engine: lean where they are known, the user's own modules where they are not."""

from collections.abc import Collection
from typing import Any

import torch

from diffexplain_fast.engine.lean.decoder import LeanDecoder
from diffexplain_fast.engine.lean.modules import ModuleDecoder, ModuleUNet
from diffexplain_fast.engine.lean.reading import UnsupportedModelError
from diffexplain_fast.engine.lean.unet import LeanUNet
from diffexplain_fast.models.xl import decoding_vae


def read_models(
    unet: Any, vae: Any, impl: str, savings: Collection[str]
) -> tuple[LeanUNet | ModuleUNet, LeanDecoder | ModuleDecoder]:
    """Return denoiser and decoder.

    Args:
        unet: diffusers UNet2DConditionModel.
        vae: diffusers AutoencoderKL.
        impl: "auto" or "reference", for every op.
        savings: names from ``SAVINGS``.
    """
    denoiser: LeanUNet | ModuleUNet
    decoder: LeanDecoder | ModuleDecoder
    with torch.inference_mode(False), torch.no_grad():
        vae = decoding_vae(unet, vae)
        try:
            denoiser = LeanUNet(unet, impl, savings)
        except UnsupportedModelError as error:
            denoiser = ModuleUNet(unet, str(error))
        try:
            decoder = LeanDecoder(vae, impl)
        except UnsupportedModelError as error:
            decoder = ModuleDecoder(vae, str(error))
    return denoiser, decoder
