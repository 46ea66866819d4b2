"""The inputs of a single call of the UNet or of the decoder, checked before any model runs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from diffexplain_fast.engine.checks import check_tensor
from diffexplain_fast.errors import wrong_type, wrong_value

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

_XL = ("text_embeds", "time_ids")
_WIDTHS = ("projection_class_embeddings_input_dim", "addition_time_embed_dim")
_NUMBERS = (int, float, np.number, Tensor)


def check_single_rows(
    unet: "UNet2DConditionModel",
    rows: object,
    timesteps: object,
    embeds: object,
    added: object,
) -> Tensor:
    """Return the timestep of each row [R].

    Args:
        unet: diffusers UNet2DConditionModel.
        rows: this and the next three as in ``SingleCalls.denoise``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a shape, dtype or device that does not fit the UNet or the rows, or conditions that are missing or
            that the UNet does not read.
    """
    weight: Tensor = next(unet.parameters())
    width = unet.config.cross_attention_dim

    check_tensor("rows", rows, ("R", unet.config.in_channels, "h", "w"), weight)
    assert isinstance(rows, Tensor)
    times = _times(timesteps, rows)
    if isinstance(embeds, Tensor) and embeds.ndim == 3 and len(embeds) != len(rows):
        raise wrong_value("embeds", f"one for each of {len(rows)} rows", len(embeds))
    check_tensor("embeds", embeds, (len(rows), "L", width if isinstance(width, int) else "d"), weight)
    given = [*added] if isinstance(added, Mapping) else added
    if getattr(unet.config, "addition_embed_type", None) != "text_time":
        if added is not None:
            raise wrong_value("added", "None, because this UNet reads no conditions of XL", given)
        return times
    if not isinstance(added, Mapping) or not {*_XL} <= added.keys():
        raise wrong_value("added", '"text_embeds" and "time_ids", which this UNet reads', given)
    pooled, ids = (added[name] for name in _XL)
    check_tensor('added["text_embeds"]', pooled, (len(rows), "p"), weight)
    sizes = ids.to(weight.dtype) if isinstance(ids, Tensor) else ids  # whole numbers, in any dtype
    check_tensor('added["time_ids"]', sizes, (len(rows), "n"), weight)
    whole, each = (getattr(unet.config, name, None) for name in _WIDTHS)
    if whole is not None and each is not None and pooled.shape[1] + each * sizes.shape[1] != whole:
        got = f"{pooled.shape[1]} and {sizes.shape[1]}"  # a refiner reads five numbers of a size, and a wider text
        raise wrong_value("added", f"p numbers of text and n of sizes with p + {each} n = {whole}", got)
    return times


def check_single_latents(vae: "AutoencoderKL", latents: object) -> None:
    """Refuse what the decoder cannot read.

    Args:
        vae: diffusers AutoencoderKL.
        latents: as in ``SingleCalls.decode``, in any floating point dtype.

    Raises:
        TypeError, ValueError: as ``check_single_rows``.
    """
    weight = next(vae.parameters())
    if isinstance(latents, Tensor) and not latents.is_floating_point():
        raise wrong_value("latents", "a floating point dtype", latents.dtype)
    like = latents if isinstance(latents, Tensor) and latents.device == weight.device else weight
    check_tensor("latents", latents, ("B", vae.config.latent_channels, "h", "w"), like)


def _times(timesteps: object, rows: Tensor) -> Tensor:
    wanted = f"a number, or a tensor of one for each of {len(rows)} rows"
    several = isinstance(timesteps, list | tuple) and all(isinstance(one, int | float | np.number) for one in timesteps)
    if isinstance(timesteps, bool) or not (several or isinstance(timesteps, (*_NUMBERS, np.ndarray))):
        raise wrong_type("timesteps", wanted, timesteps)
    times = torch.as_tensor(timesteps, device=rows.device)
    if times.dtype == torch.bool or times.is_complex():
        raise wrong_value("timesteps", wanted, times.dtype)
    if times.ndim == 0:
        return times.expand(len(rows))
    if times.ndim != 1:
        raise wrong_value("timesteps", wanted, list(times.shape))
    if len(times) != len(rows):
        raise wrong_value("timesteps", f"one for each of {len(rows)} rows", len(times))
    return times
