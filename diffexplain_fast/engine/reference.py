"""The reference: one readable denoising loop over eager modules, which every faster engine has to agree with."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple, TypeVar, TypeVarTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from diffexplain_fast.engine.gradients import Differentiated
from diffexplain_fast.engine.guarded import Edits
from diffexplain_fast.engine.repeated import Repeated
from diffexplain_fast.engine.schedules import Schedule, Step
from diffexplain_fast.models.frozen import check_thawed, frozen, trainable
from diffexplain_fast.models.xl import LatentScale, decoding_vae, latent_scale
from diffexplain_fast.ops._autocast import without_autocast

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

_Ts = TypeVarTuple("_Ts")
_R = TypeVar("_R")

_PART: ContextVar[object] = ContextVar("part", default=None)
"""The part that runs, of a call in which parts run again for the backward; None elsewhere."""
Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(sample [B, c, h, w], timestep []) -> (guided) noise or velocity [B, c, h, w]."""


class Conditions(NamedTuple):
    """Inputs of the denoiser besides the sample: one row per image, after B unconditional rows if there is guidance.

    Attributes:
        embeds: prompt embeddings [B or 2B, L, d].
        added: Stable Diffusion XL's ``text_embeds`` [B or 2B, p] and ``time_ids`` [B or 2B, 6], None for other models.
    """

    embeds: Tensor
    added: dict[str, Tensor] | None


def rescaled(guided: Tensor, conditional: Tensor, strength: Tensor | float) -> Tensor:
    """Return a guided prediction [B, c, h, w] whose standard deviation is moved to that of the conditional prediction.

    Equivalent to: diffusers' ``rescale_noise_cfg(guided, conditional, strength)``.

    Args:
        guided: classifier-free guidance's prediction.
        conditional: the prediction without guidance.
        strength: 0 for the guided prediction unchanged, 1 for the standard deviation of the conditional one, per image.

    Source: Lin et al. (arXiv 2305.08891), eqs. 15 and 16.
    """
    axes = tuple(range(1, guided.ndim))
    ratio = conditional.std(axes, keepdim=True) / guided.std(axes, keepdim=True)
    return guided * (strength * ratio + (1 - strength))


def guided_denoiser(
    unet: "UNet2DConditionModel", conditions: Conditions, guidance_scale: float, guidance_rescale: float = 0.0
) -> Denoiser:
    """Return a denoiser with classifier-free guidance: u + s (c - u); at s = 1 the unconditional rows are never run.

    Args:
        unet: diffusers UNet2DConditionModel or a module called like one; frozen during each call, except for the
            weights that are ``trainable``.
        conditions: B rows if ``guidance_scale`` is 1, else 2B.
        guidance_scale: s, at least 1.
        guidance_rescale: strength of ``rescaled``, which only guidance has.

    Source: Ho and Salimans (arXiv 2207.12598), eq. 6, in diffusers' parametrisation (s = 1 + w).
    """
    guided, trained, edits = guidance_scale != 1.0, _trained(unet), Edits(unet)
    repeating = _repeating(unet)

    def denoiser(sample: Tensor, timestep: Tensor) -> Tensor:
        rows = torch.cat([sample, sample]) if guided else sample

        def run() -> Tensor:
            output: Tensor = unet(
                rows.to(conditions.embeds.dtype),
                timestep,
                encoder_hidden_states=conditions.embeds,
                added_cond_kwargs=conditions.added,
                return_dict=False,
            )[0]
            return output

        # The UNet is frozen here and not around the loop, so that it is frozen in a recompute during backward too.
        with frozen(unet, but=trained):
            output = edits.run(lambda: repeating(run), again=_PART.get() is not None).to(sample.dtype)
        if not guided:
            return output
        unconditional, conditional = output.chunk(2)
        output = unconditional + guidance_scale * (conditional - unconditional)
        return rescaled(output, conditional, guidance_rescale) if guidance_rescale else output

    return denoiser


def advance(
    denoiser: Denoiser,
    step: Step,
    detached: bool,
    timestep: Tensor,
    sample: Tensor,
    before: Tensor | None,
    noise: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """Take one step of a schedule.

    Args:
        denoiser: predicts noise or velocity.
        step: coefficients.
        detached: cut the gradient between the sample and the denoiser.
        timestep: the step's timestep [] on the sample's device.
        sample: x_i [B, c, h, w].
        before: prediction of the clean sample at the previous step, None at the first step.
        noise: standard normal noise, None if the step adds none.

    Returns:
        x_{i+1} and the prediction of the clean sample, None if the schedule never needs the prediction.
    """
    rows = step.input_scale * sample
    output = denoiser(rows.detach() if detached else rows, timestep)
    following = step.sample * sample + step.output * output
    if before is not None and step.previous:
        following = following + step.previous * before
    if noise is not None:
        following = following + step.noise * noise
    data = None if step.data is None else step.data[0] * sample + step.data[1] * output
    return following, data


def denoise(
    denoiser: Denoiser, schedule: Schedule, start: Tensor, noises: Sequence[Tensor | None], gradient: Differentiated
) -> Tensor:
    """Run the sampler from noise to clean latents.

    Args:
        denoiser: predicts noise or velocity.
        schedule: coefficients of every step.
        start: unit-variance noise [B, c, h, w].
        noises: for each step standard normal noise like ``start``, None where the step adds none.
        gradient: which part of the loop is differentiated.

    Returns:
        Clean latents [B, c, h, w], in the scale the VAE was trained on times its scaling factor.
    """
    take = _recomputed(advance) if gradient.checkpointed else advance
    sample, before = start * schedule.init_noise_sigma, None
    timesteps = schedule.timesteps(start.device)
    for i, (step, timestep, noise) in enumerate(zip(schedule.steps, timesteps, noises, strict=True)):
        with torch.set_grad_enabled(torch.is_grad_enabled() and i >= gradient.first_step):
            sample, before = take(denoiser, step, gradient.detached, timestep, sample, before, noise)
    return sample


@without_autocast
def sample_plainly(
    models: "tuple[UNet2DConditionModel, AutoencoderKL]",
    schedule: Schedule,
    conditions: Conditions,
    guidance: tuple[float, float],
    start: Tensor,
    noises: Sequence[Tensor | None],
    gradient: Differentiated,
) -> Tensor:
    """Return images [B, 3, H, W] in the dtypes of the models, also inside of ``torch.autocast``.

    Args:
        models: UNet and VAE.
        schedule: coefficients of every step.
        conditions: B rows, or 2B with the unconditional ones first.
        guidance: scale and rescale of ``guided_denoiser``.
        start: unit-variance noise [B, c, h, w].
        noises: as in ``denoise``.
        gradient: which part of the loop is differentiated.
    """
    denoiser = guided_denoiser(models[0], conditions, *guidance)
    clean = denoise(denoiser, schedule, start, noises, gradient)
    return decode(decoding_vae(*models), clean, gradient, latent_scale(*models))


def decode(vae: "AutoencoderKL", latents: Tensor, gradient: Differentiated, scale: LatentScale) -> Tensor:
    """Return images of clean latents as ``vae_images`` does; weights that are ``trainable`` get a gradient."""
    trained, edits, repeating = _trained(vae), Edits(vae), _repeating(vae)

    def images(rows: Tensor) -> Tensor:
        return edits.run(
            lambda: repeating(lambda: vae_images(vae, rows, trained, scale)), again=_PART.get() is not None
        )

    return (_recomputed(images) if gradient.checkpointed else images)(latents)


def vae_images(vae: "AutoencoderKL", latents: Tensor, weights: Sequence[Tensor], scale: LatentScale) -> Tensor:
    """Return images [B, 3, H, W], about [0, 1] and unclamped.

    Args:
        vae: diffusers AutoencoderKL; frozen meanwhile, except for ``weights``.
        latents: clean latents [B, c, h, w].
        weights: parameters that get a gradient.
        scale: of the latents.
    """
    rows = scale.to_vae(latents).to(next(vae.parameters()).dtype)
    with frozen(vae, but=weights):
        images: Tensor = vae.decode(rows, return_dict=False)[0]
    return images / 2 + 0.5


def _trained(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    weights = trainable(model)
    if torch.is_grad_enabled():
        check_thawed(weights)
    return weights


def _recomputed(function: Callable[[*_Ts], _R]) -> Callable[[*_Ts], _R]:
    """Return the function, storing only its arguments for the backward, in which hooks draw the same random numbers."""

    def stored(*arguments: *_Ts) -> _R:
        part = object()

        def run(*again: *_Ts) -> _R:
            token = _PART.set(part)
            try:
                return function(*again)
            finally:
                _PART.reset(token)

        # With an early stop, a recompute would end before its output can be compared.
        result: _R = checkpoint(run, *arguments, use_reentrant=False, early_stop=False)
        return result

    return stored


def _repeating(model: torch.nn.Module) -> Callable[[Callable[[], Tensor]], Tensor]:
    """Return a function that runs a model, and raises in a recompute if the model computes something else."""
    repeated: list[Repeated] = []  # made where it is needed, because that takes as long as a few layers

    def run(compute: Callable[[], Tensor]) -> Tensor:
        part = _PART.get()
        if part is None or not torch.is_grad_enabled():
            return compute()
        repeated.extend([] if repeated else [Repeated(model)])
        return repeated[0].run(part, compute)

    return run
