"""Models the lean ones do not know, behind the same interface: the user's own modules, recomputed step by step."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from diffexplain_fast.engine.lean.levels import Level
from diffexplain_fast.models.frozen import frozen


class ModuleUNet:
    """A UNet called as diffusers calls it; the text reaches it unprojected.

    Args:
        unet: diffusers UNet2DConditionModel or a module called like one.
        reason: why it is not a ``LeanUNet``.
    """

    def __init__(self, unet: Any, reason: str) -> None:
        self.unet, self.reason = unet, reason

    def project(self, embeds: Tensor) -> list[Tensor]:
        """Return the embeddings themselves, [R, L, width]."""
        return [embeds]

    def shifts(self, timesteps: Tensor, added: dict[str, Tensor] | None) -> list[list[Tensor]]:
        """Return for every step the timestep [1] and Stable Diffusion XL's conditions, where there are any.

        Args:
            timesteps: [N].
            added: conditions of R rows, None for others.
        """
        return [[timestep[None], *((added or {}).values())] for timestep in timesteps]

    def __call__(self, sample: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor], level: Level) -> Tensor:
        """Return the denoiser's output [R, c, h, w].

        Args:
            sample: latents [B, c, h, w], R = B or 2B.
            text: the embeddings of R rows.
            shifts: one step of ``shifts``.
            level: not used; the trajectory computes the whole step again.
        """
        timestep, *conditions = shifts
        added = dict(zip(("text_embeds", "time_ids"), conditions, strict=True)) if conditions else None
        rows = sample.repeat(len(text[0]) // len(sample), 1, 1, 1)
        with frozen(self.unet):
            return self.unet(
                rows, timestep[0], encoder_hidden_states=text[0], added_cond_kwargs=added, return_dict=False
            )[0]


class ModuleDecoder:
    """A VAE decoder called as diffusers calls it.

    Args:
        vae: diffusers AutoencoderKL.
        reason: why it is not a ``LeanDecoder``.
    """

    def __init__(self, vae: Any, reason: str) -> None:
        self.vae, self.reason = vae, reason

    def __call__(self, latents: Tensor, level: Level) -> Tensor:
        """Return images [B, 3, H, W], about [0, 1] and unclamped.

        Args:
            latents: clean latents [B, c, h, w].
            level: not used.
        """
        config = self.vae.config
        rows = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
        with frozen(self.vae):
            return self.vae.decode(rows.to(next(self.vae.parameters()).dtype), return_dict=False)[0] / 2 + 0.5
