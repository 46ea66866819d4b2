"""UNet and VAE decoder of a pipeline, one call at a time, for what has no loop: inversions, edits, errors on noise."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from diffexplain_fast.engine.checkpointing import EDITED
from diffexplain_fast.engine.checks import check_single
from diffexplain_fast.engine.guarded import Guarded
from diffexplain_fast.engine.lean.levels import LEVELS
from diffexplain_fast.engine.lean.modules import ModuleDecoder, ModuleUNet, read_models
from diffexplain_fast.engine.lean.protocols import Decoder, Denoiser
from diffexplain_fast.engine.lean.savings import SAVINGS
from diffexplain_fast.engine.lean.unet import LeanUNet
from diffexplain_fast.engine.reference import vae_images
from diffexplain_fast.engine.single_inputs import check_single_latents, check_single_rows
from diffexplain_fast.engine.uncompiled import slower_here
from diffexplain_fast.models.frozen import frozen, trainable
from diffexplain_fast.models.used import Used
from diffexplain_fast.models.watch import Watch
from diffexplain_fast.models.xl import decoding_vae, latent_scale
from diffexplain_fast.ops._autocast import converted, without_autocast
from diffexplain_fast.ops._autograd import refuse_transforms

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

_KEEP = LEVELS["keep"]
Added = dict[str, Tensor] | None
"""Stable Diffusion XL's conditions "text_embeds" [R, p] and "time_ids" [R, 6]; None for other models."""


class Models(NamedTuple):
    """Models as they were read.

    Attributes:
        denoiser: lean UNet, or the user's own module.
        decoder: lean VAE decoder, or the user's own module.
        watch: notices that they were edited since; None where nothing was read.
        trained: parameters of the UNet that get a gradient where its own module runs.
    """

    denoiser: Denoiser
    decoder: Decoder
    watch: Watch | None
    trained: Sequence[Tensor] = ()


class SingleCalls:
    """A UNet and the decoder of a VAE: lean models where the engine knows them, else the user's own modules.

    Lean models share the weights, except those of convolutions in another layout, which they copy.

    Args:
        unet: diffusers UNet2DConditionModel; never changed.
        vae: diffusers AutoencoderKL; never changed.
        read: reads the models, at first and after each edit.
        closely: look before every call of a lean model whether a weight was edited, also by ``weight.data``, and before
            every backward, also of the user's own modules, the same again. If False, only what shows without a look at
            the weights is followed, and a backward does not look, for callers who know that nobody edits or unfreezes
            them meanwhile.
        trains: whether weights that require grad get a gradient, as in a sampler.
    """

    def __init__(
        self,
        unet: "UNet2DConditionModel",
        vae: "AutoencoderKL",
        read: Callable[[], Models],
        closely: bool = True,
        trains: bool = False,
    ) -> None:
        self._unet, self._vae, self._read, self._closely, self._trains = unet, vae, read, closely, trains
        self._trained, self._models = self._trainable(), read()
        self._plain = Guarded(unet), Guarded(vae)

    @classmethod
    def of(
        cls, unet: "UNet2DConditionModel", vae: "AutoencoderKL", backend: str = "auto", closely: bool = True
    ) -> "SingleCalls":
        """Read a UNet and a VAE, whose weights get no gradient.

        Args:
            unet: diffusers UNet2DConditionModel; never changed.
            vae: diffusers AutoencoderKL; never changed.
            backend: "auto" or "fast" for lean models; "reference" for the modules themselves, which "auto" takes too
                where the kernels for small models on a CPU are not compiled.
            closely: see the class.
        """
        reason = "asked for" if backend == "reference" else slower_here(unet, vae) if backend == "auto" else ""
        if reason:
            return cls.own(unet, vae, reason, closely=closely)

        def read() -> Models:
            models = read_models(unet, vae, "auto", SAVINGS)
            with torch.inference_mode(False), torch.no_grad():
                return Models(*models, Watch(unet, vae))

        return cls(unet, vae, read, closely)

    @classmethod
    def own(
        cls,
        unet: "UNet2DConditionModel",
        vae: "AutoencoderKL",
        reason: str,
        trains: bool = False,
        closely: bool = True,
    ) -> "SingleCalls":
        """Take the modules themselves.

        Args:
            unet: diffusers UNet2DConditionModel; never changed.
            vae: diffusers AutoencoderKL; never changed.
            reason: why.
            trains: see the class.
            closely: see the class.
        """

        def read() -> Models:
            trained = (trainable(unet), trainable(vae)) if trains else ((), ())
            return Models(ModuleUNet(unet, reason), _OwnDecoder(unet, vae, reason, trained[1]), None, trained[0])

        return cls(unet, vae, read, closely, trains)

    @property
    def described(self) -> str:
        """Which UNet runs, and why where it is the user's own module."""
        reason = self._models.denoiser.reason
        return f"its own modules ({reason})" if reason else "lean model"

    def denoise(self, rows: Tensor, timesteps: Tensor | float, embeds: Tensor, added: Added = None) -> Tensor:
        """Return the UNet's output [R, c, h, w].

        It is differentiable in rows, embeddings and XL's pooled text, and in trained weights if the calls are those of
        a sampler.

        Args:
            rows: noisy latents [R, c, h, w] in the UNet's dtype, scaled as it reads them. Inside of ``torch.autocast``
                these, ``embeds`` and "text_embeds" of another floating point dtype are converted to the UNet's.
            timesteps: of each row [R], or one for all.
            embeds: prompt embeddings [R, L, width].
            added: Stable Diffusion XL's conditions "text_embeds" [R, p] and "time_ids" [R, 6], the latter in any dtype;
                None for other models.

        Raises:
            TypeError: an argument of the wrong kind.
            ValueError: a shape, dtype or device that does not fit the UNet or the rows, or conditions that are missing
                or that the UNet does not read. Where the user's own UNet runs with a graph: its own checkpointing is
                on, or its weights were made in inference mode.
            RuntimeError: a call of the lean model inside of ``torch.func`` or forward mode; in the backward, models
                that were edited since the call, where the user's own UNet runs only if its weights were.
        """
        weight = next(self._unet.parameters())
        if isinstance(added, dict):  # sizes may have any dtype, and half precision would round them
            added = {name: value if name == "time_ids" else converted(value, weight) for name, value in added.items()}
        return self._denoise(converted(rows, weight), timesteps, converted(embeds, weight), added)

    @without_autocast
    def _denoise(self, rows: Tensor, timesteps: Tensor | float, embeds: Tensor, added: Added) -> Tensor:
        times = check_single_rows(self._unet, rows, timesteps, embeds, added)
        self._follow()
        denoiser, _, watch, trained = self._models
        if isinstance(denoiser, LeanUNet):
            refuse_transforms("denoise", rows, embeds, times, *(added or {}).values(), modules=(self._unet,))
            return self._guarded(_lean(denoiser, rows, times, embeds, added), trained)
        check_single("unet", self._unet, (rows, embeds, *(added or {}).values()), bool(trained))
        output = _own(self._unet, rows, times, embeds, added, trained)
        if watch is not None:
            watch.ran()
        return self._plain[0](output) if self._closely else output

    @without_autocast
    def decode(self, latents: Tensor) -> Tensor:
        """Return pixels [B, 3, H, W], about [0, 1] and not clamped, of latents [B, c, h, w] in the denoiser's scale.

        Raises:
            TypeError, ValueError, RuntimeError: as ``denoise``.
        """
        check_single_latents(self._vae, latents)
        self._follow()
        decoder, watch = self._models.decoder, self._models.watch
        if not decoder.reason:
            refuse_transforms("decode", latents, modules=(self._vae,))
            return self._guarded(decoder(latents, _KEEP))
        check_single("vae", self._vae, (latents,), self._trains and bool(trainable(self._vae)))
        pixels = decoder(latents, _KEEP)
        if watch is not None:
            watch.ran()
        return self._plain[1](pixels) if self._closely else pixels

    def _follow(self) -> None:
        """Read the models again after an edit, or if other weights are to get a gradient."""
        watch, trained = self._models.watch, self._trainable() if self._closely else self._trained
        edited = watch is not None and (watch.edited() if self._closely else watch.touched())
        if edited or trained != self._trained:
            self._trained, self._models = trained, self._read()

    def _trainable(self) -> list[int]:
        return [id(weight) for part in (self._unet, self._vae) for weight in trainable(part)] if self._trains else []

    def _guarded(self, output: Tensor, trained: Sequence[Tensor] = ()) -> Tensor:
        """Return an output of a lean model, whose backward reads the weights again, and so raises after an edit.

        Args:
            output: the output.
            trained: weights of this model that get a gradient; those of the other one may be stepped before.
        """
        watch = self._models.watch if self._closely else None
        if watch is not None and output.requires_grad:
            used = Used(watch, trained)

            def check(gradient: Tensor) -> None:
                if used.edited():
                    raise RuntimeError(EDITED)

            output.register_hook(check)  # type: ignore[no-untyped-call]
        return output


class _OwnDecoder(ModuleDecoder):
    """A VAE as diffusers' pipeline decodes by it: a float16 one of XL on a copy in float32, where it asks for that."""

    def __init__(
        self, unet: "UNet2DConditionModel", vae: "AutoencoderKL", reason: str, weights: Sequence[nn.Parameter]
    ) -> None:
        super().__init__(vae, reason, latent_scale(unet, vae), weights)
        self._unet, self._vae = unet, vae

    def __call__(self, latents: Tensor, level: object) -> Tensor:
        """Return images [B, 3, H, W], about [0, 1] and unclamped."""
        scale = latent_scale(self._unet, self._vae)  # of the configuration as it is now
        return vae_images(decoding_vae(self._unet, self._vae), latents, self._weights, scale)


def _own(
    unet: "UNet2DConditionModel",
    rows: Tensor,
    timesteps: Tensor,
    embeds: Tensor,
    added: Added,
    trained: Collection[Tensor] = (),
) -> Tensor:
    """Return the output of the user's own UNet, as diffusers calls it; arguments as in ``SingleCalls``."""
    if torch.is_grad_enabled():  # the caller may change them in place before the backward, as with a lean model
        rows, embeds = rows.clone(), embeds.clone()
        added = None if added is None else {name: value.clone() for name, value in added.items()}
    with frozen(unet, but=trained) if torch.is_grad_enabled() else at_rest(unet):
        output: Tensor = unet(
            rows, timesteps, encoder_hidden_states=embeds, added_cond_kwargs=added, return_dict=False
        )[0]
    return output


def _lean(unet: LeanUNet, rows: Tensor, timesteps: Tensor, embeds: Tensor, added: Added) -> Tensor:
    with torch.no_grad() if added is None else nullcontext():
        shifts = unet.row_shifts(timesteps, added)
    return unet(rows, unet.project(embeds), shifts, _KEEP)


def at_rest(module: nn.Module) -> AbstractContextManager[None]:
    """Return a context in which a module is in eval mode; without gradients nothing else has to be frozen."""
    return frozen(module) if any(part.training for part in module.modules()) else nullcontext()
