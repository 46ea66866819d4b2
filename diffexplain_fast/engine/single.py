"""UNet and VAE decoder of a pipeline, one call at a time, for what has no loop: inversions, edits, errors on noise."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.lean.levels import LEVELS
from diffexplain_fast.engine.lean.modules import ModuleDecoder, ModuleUNet, read_models
from diffexplain_fast.engine.lean.protocols import Decoder, Denoiser
from diffexplain_fast.engine.lean.savings import SAVINGS
from diffexplain_fast.engine.lean.unet import LeanUNet
from diffexplain_fast.engine.uncompiled import slower_here
from diffexplain_fast.models.frozen import frozen
from diffexplain_fast.models.watch import Watch
from diffexplain_fast.ops._autocast import without_autocast

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

_KEEP = LEVELS["keep"]


class Models(NamedTuple):
    """Models as they were read.

    Attributes:
        denoiser: lean UNet, or the user's own module.
        decoder: lean VAE decoder, or the user's own module.
        watch: notices that they were edited since; None where nothing was read.
    """

    denoiser: Denoiser
    decoder: Decoder
    watch: Watch | None


class SingleCalls:
    """A UNet and the decoder of a VAE: lean models where the engine knows them, else the user's own modules.

    Args:
        unet: diffusers UNet2DConditionModel; never changed.
        read: reads the models, at first and after each edit that shows without a look at the weights.
    """

    def __init__(self, unet: "UNet2DConditionModel", read: Callable[[], Models]) -> None:
        self._unet, self._read = unet, read
        self._models = read()

    @classmethod
    def of(cls, unet: "UNet2DConditionModel", vae: "AutoencoderKL", backend: str = "auto") -> "SingleCalls":
        """Read a UNet and a VAE.

        Args:
            unet: diffusers UNet2DConditionModel; never changed.
            vae: diffusers AutoencoderKL; never changed.
            backend: "auto" or "fast" for lean models; "reference" for the modules themselves, which "auto" takes too
                where the kernels for small models on a CPU are not compiled.
        """
        asked = "asked for" if backend == "reference" else slower_here(unet, vae) if backend == "auto" else ""

        def read() -> Models:
            if asked:
                return Models(ModuleUNet(unet, asked), ModuleDecoder(vae, asked), None)
            models = read_models(unet, vae, "auto", SAVINGS)
            with torch.inference_mode(False), torch.no_grad():
                return Models(*models, Watch(unet, vae))

        return cls(unet, read)

    @property
    def described(self) -> str:
        """Which UNet runs, and why where it is the user's own module."""
        reason = self._models.denoiser.reason
        return f"its own modules ({reason})" if reason else "lean model"

    def denoise(
        self, rows: Tensor, timesteps: Tensor, embeds: Tensor, added: dict[str, Tensor] | None = None
    ) -> Tensor:
        """Return the UNet's output [R, c, h, w], differentiable in rows and embeddings.

        Args:
            rows: noisy latents [R, c, h, w] in the UNet's dtype, scaled as it reads them.
            timesteps: of each row [R].
            embeds: prompt embeddings [R, L, width].
            added: Stable Diffusion XL's conditions "text_embeds" and "time_ids" of R rows, None for other models.
        """
        self._follow()
        denoiser, watch = self._models.denoiser, self._models.watch
        if isinstance(denoiser, LeanUNet):
            return _lean(denoiser, rows, timesteps, embeds, added)
        output = own_output(self._unet, rows, timesteps, embeds, added)
        if watch is not None:
            watch.ran()
        return output

    @without_autocast
    def decode(self, latents: Tensor) -> Tensor:
        """Return pixels [B, 3, H, W], about [0, 1] and not clamped, of latents [B, c, h, w] in the denoiser's scale."""
        self._follow()
        pixels = self._models.decoder(latents, _KEEP)
        if self._models.watch is not None and self._models.decoder.reason:
            self._models.watch.ran()
        return pixels

    def _follow(self) -> None:
        if self._models.watch is not None and self._models.watch.touched():
            self._models = self._read()


def own_output(
    unet: "UNet2DConditionModel", rows: Tensor, timesteps: Tensor, embeds: Tensor, added: dict[str, Tensor] | None
) -> Tensor:
    """Return the output of the user's own UNet, as diffusers calls it; arguments as in ``SingleCalls.denoise``."""
    with frozen(unet) if torch.is_grad_enabled() else at_rest(unet):
        output: Tensor = unet(
            rows, timesteps, encoder_hidden_states=embeds, added_cond_kwargs=added, return_dict=False
        )[0]
    return output


@without_autocast
def _lean(unet: LeanUNet, rows: Tensor, timesteps: Tensor, embeds: Tensor, added: dict[str, Tensor] | None) -> Tensor:
    with torch.no_grad():
        shifts = unet.row_shifts(timesteps, added)
    return unet(rows, unet.project(embeds), shifts, _KEEP)


def at_rest(module: nn.Module) -> AbstractContextManager[None]:
    """Return a context in which a module is in eval mode; without gradients nothing else has to be frozen."""
    return frozen(module) if any(part.training for part in module.modules()) else nullcontext()
