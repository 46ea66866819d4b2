"""The fast engine over a public model without weights: what is counted, planned and traced."""

from typing import TYPE_CHECKING, NamedTuple

import torch

from diffexplain_fast.engine.lean.decoder import LeanDecoder
from diffexplain_fast.engine.lean.unet import LeanUNet
from diffexplain_fast.engine.memory.costs import Request
from diffexplain_fast.engine.memory.workspaces import CUBLAS_HOPPER, CUBLAS_PAIRS
from diffexplain_fast.models.public import PUBLIC, public_models
from diffexplain_fast.ops.attention import CUDNN_DIMS

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel


class Parts(NamedTuple):
    """The fast engine over a public model without weights."""

    denoiser: LeanUNet
    decoder: LeanDecoder
    modules: tuple["UNet2DConditionModel", "AutoencoderKL"]
    request: Request  # sizes of a call, on the meta device


def prepare(
    model: str, *, steps: int, guided: bool, batch: int, dtype: torch.dtype = torch.bfloat16, cudnn: bool = False
) -> Parts:
    """Return the engine's models for a call, with the Triton kernels; see ``estimate`` for the arguments.

    Args:
        model: name of a public model.
        steps: denoising steps.
        guided: with unconditional rows.
        batch: images.
        dtype: of the models.
        cudnn: with cuDNN's attention for long keys, as on cards where torch prefers it.

    Raises:
        UnknownNameError: no such model.
    """
    unet, vae = public_models(model, dtype)
    denoiser, decoder = LeanUNet(unet, "triton"), LeanDecoder(vae, "triton")
    denoiser.raw.cudnn = CUDNN_DIMS if cudnn else ()
    size, rows = unet.config.sample_size, 2 * batch if guided else batch
    with torch.device("meta"):
        sample = torch.empty(batch, unet.config.in_channels, size, size)
        embeds = torch.empty(rows, PUBLIC[model].tokens, unet.config.cross_attention_dim, dtype=dtype)
        shifts = [torch.empty(1, block.conv1.weight.shape[0], dtype=dtype) for block in denoiser.resnets()]
    cublas = CUBLAS_PAIRS * CUBLAS_HOPPER  # the most of all cards
    request = Request(sample, denoiser.project(embeds), shifts, steps, 0, guided, False, cublas=cublas)
    return Parts(denoiser, decoder, (unet, vae), request)
