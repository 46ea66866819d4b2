"""The models of an engine: lean models if they are known, else the user's own modules, recomputed step by step."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.lean.decoder import LeanDecoder
from diffexplain_fast.engine.lean.levels import Level
from diffexplain_fast.engine.lean.protocols import Decoder, Denoiser
from diffexplain_fast.engine.lean.taken import UnsupportedModelError
from diffexplain_fast.engine.lean.unet import LeanUNet
from diffexplain_fast.engine.reference import vae_images
from diffexplain_fast.models.frozen import frozen
from diffexplain_fast.models.xl import LatentScale, decoding_vae, latent_scale

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel


class Trained(NamedTuple):
    """The parameters of UNet and VAE that get a gradient."""

    unet: Sequence[nn.Parameter] = ()
    vae: Sequence[nn.Parameter] = ()

    @property
    def every(self) -> list[nn.Parameter]:
        """All these parameters, the UNet's first."""
        return [*self.unet, *self.vae]


NOT_TRAINED = Trained()


class ModuleUNet:
    """A UNet called as diffusers calls it, with unprojected text. See ``Denoiser``.

    Args:
        unet: diffusers UNet2DConditionModel or a module called like one.
        reason: why it is not a ``LeanUNet``.
        weights: parameters that get a gradient.
    """

    levels, implementations = ("step",), ""

    def __init__(self, unet: "UNet2DConditionModel", reason: str, weights: Sequence[nn.Parameter] = ()) -> None:
        self.unet, self.reason, self._weights = unet, reason, weights

    def project(self, embeds: Tensor) -> list[Tensor]:
        """Return the embeddings themselves, [R, L, width]."""
        return [embeds]

    def shifts(self, timesteps: Tensor, added: dict[str, Tensor] | None) -> list[list[Tensor]]:
        """Return for every step the timestep [1] and Stable Diffusion XL's conditions, if there are any."""
        return [[timestep[None], *((added or {}).values())] for timestep in timesteps]

    def __call__(self, sample: Tensor, text: Sequence[Tensor], shifts: Sequence[Tensor], level: Level) -> Tensor:
        """Return the output [R, c, h, w], at every level alike: the trajectory computes the whole step again."""
        timestep, *conditions = shifts
        added = dict(zip(("text_embeds", "time_ids"), conditions, strict=True)) if conditions else None
        rows = sample.repeat(len(text[0]) // len(sample), 1, 1, 1)
        with frozen(self.unet, but=self._weights):
            output: Tensor = self.unet(
                rows, timestep[0], encoder_hidden_states=text[0], added_cond_kwargs=added, return_dict=False
            )[0]
        return output


class ModuleDecoder:
    """A VAE decoder called as diffusers calls it. See ``Decoder``.

    Args:
        vae: diffusers AutoencoderKL.
        reason: why it is not a ``LeanDecoder``.
        scale: of the latents.
        weights: parameters that get a gradient.
    """

    levels, implementations = ("step",), ""

    def __init__(
        self, vae: "AutoencoderKL", reason: str, scale: LatentScale, weights: Sequence[nn.Parameter] = ()
    ) -> None:
        self.vae, self.reason, self.scale, self._weights = vae, reason, scale, weights

    def __call__(self, latents: Tensor, level: Level) -> Tensor:
        """Return images [B, 3, H, W], about [0, 1] and unclamped, at every level alike."""
        return vae_images(self.vae, latents, self._weights, self.scale)


def own_module(model: Denoiser | Decoder) -> nn.Module | None:
    """Return the user's module that a denoiser or a decoder runs; None for a lean model."""
    own: nn.Module | None = None
    if isinstance(model, ModuleUNet):
        own = model.unet
    elif isinstance(model, ModuleDecoder):
        own = model.vae
    return own


def read_models(
    unet: "UNet2DConditionModel",
    vae: "AutoencoderKL",
    impl: str,
    savings: Collection[str],
    trained: Trained = NOT_TRAINED,
) -> tuple[Denoiser, Decoder]:
    """Return denoiser and decoder.

    Args:
        unet: diffusers UNet2DConditionModel.
        vae: diffusers AutoencoderKL.
        impl: "auto" or "reference", for every op.
        savings: names from ``SAVINGS``.
        trained: parameters that get a gradient.
    """
    denoiser: Denoiser
    decoder: Decoder
    weights = [*trained.unet, *trained.vae]
    with torch.inference_mode(False), torch.no_grad():
        vae, scale = decoding_vae(unet, vae), latent_scale(unet, vae)
    with torch.inference_mode(False), torch.no_grad(), frozen(unet, vae, but=weights):
        try:
            denoiser = LeanUNet(unet, impl, savings)
            _check_trained(unet, trained.unet, denoiser.trained())
        except UnsupportedModelError as error:
            denoiser = ModuleUNet(unet, str(error), trained.unet)
        try:
            decoder = LeanDecoder(vae, impl, scale)
            _check_trained(vae, trained.vae, ())
        except UnsupportedModelError as error:
            decoder = ModuleDecoder(vae, str(error), scale, trained.vae)
    return denoiser, decoder


def _check_trained(model: nn.Module, weights: Sequence[Tensor], known: Sequence[Tensor]) -> None:
    """Refuse a model with a trained parameter that its lean twin has no gradient for.

    Raises:
        UnsupportedModelError: names the first such parameter.
    """
    unknown = {*map(id, weights)} - {*map(id, known)}
    names = [name for name, weight in model.named_parameters() if id(weight) in unknown]
    if names:
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise UnsupportedModelError(f"trainable weights: {names[0]}{others}")


def fallback_notes(denoiser: Denoiser, decoder: Decoder) -> str:
    """Return which models run through their own modules and why, empty if both models are known."""
    notes = [
        f"the {name} runs through its own modules ({model.reason})"
        for name, model in (("UNet", denoiser), ("VAE", decoder))
        if model.reason
    ]
    return "; ".join(notes)
