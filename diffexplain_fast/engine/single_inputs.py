"""The inputs of a single call of the UNet or of the decoder, checked before any model runs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffexplain_fast.engine.checks import check_tensor
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.models.xl import pooled_width

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

_XL = ("text_embeds", "time_ids")


def check_single_rows(
    unet: "UNet2DConditionModel", rows: object, timesteps: object, embeds: object, added: object
) -> Tensor:
    """Return the timestep of each row [R].

    Args:
        unet: diffusers UNet2DConditionModel.
        rows: this and the others as in ``SingleCalls.denoise``.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a shape, dtype or device that does not fit the UNet or the rows, or conditions that are missing or
            that the UNet does not read.
    """
    weight, width = next(unet.parameters()), unet.config.cross_attention_dim
    check_tensor("rows", rows, ("R", unet.config.in_channels, "h", "w"), weight)
    assert isinstance(rows, Tensor)
    times = _times(timesteps, rows)
    if isinstance(embeds, Tensor) and embeds.ndim == 3 and len(embeds) != len(rows):
        raise wrong_value("embeds", f"one for each of {len(rows)} rows", len(embeds))
    check_tensor("embeds", embeds, (len(rows), "L", width if isinstance(width, int) else "d"), weight)
    if getattr(unet.config, "addition_embed_type", None) != "text_time":
        if added is not None:
            got = [*added] if isinstance(added, Mapping) else added
            raise wrong_value("added", "None, because this UNet reads no conditions of XL", got)
        return times
    if not isinstance(added, Mapping) or not {*_XL} <= added.keys():
        got = [*added] if isinstance(added, Mapping) else added
        raise wrong_value("added", '"text_embeds" and "time_ids", which this UNet reads', got)
    pooled, ids = (added[name] for name in _XL)
    check_tensor('added["text_embeds"]', pooled, (len(rows), pooled_width(unet) or "p"), weight)
    sizes = ids.to(weight.dtype) if isinstance(ids, Tensor) else ids  # whole numbers, in any dtype
    check_tensor('added["time_ids"]', sizes, (len(rows), 6), weight)
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
    if isinstance(timesteps, bool) or not isinstance(timesteps, int | float | Tensor):
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
