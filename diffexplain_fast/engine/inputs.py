"""The inputs of a call besides the prompt, as the tensors that the engines read: noise, unconditional rows, sizes."""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.engine.checks import check_ready, check_tensor
from diffexplain_fast.engine.reference import Conditions
from diffexplain_fast.engine.schedules import Schedule
from diffexplain_fast.errors import callers_level, wrong_type, wrong_value
from diffexplain_fast.models.xl import pooled_width
from diffexplain_fast.ops._autocast import converted

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

SIZES = ("pooled_prompt_embeds", "negative_pooled_prompt_embeds", "time_ids", "negative_time_ids")
"""Inputs of Stable Diffusion XL, in the order in which they are read."""
Generators = Sequence[torch.Generator]
"""One generator for all images, or a generator for each image."""


def check_generators(generator: object, batch: int) -> Generators:
    """Return CPU generators: the caller's generator or generators, or torch's global generator, as in diffusers.

    Args:
        generator: a generator, a list with a generator for each image, or None.
        batch: number of images.

    Raises:
        TypeError: not a generator, nor a list of generators.
        ValueError: a generator of another device, whose numbers would differ from machine to machine, or a list with
            more or fewer generators than images.
    """
    if generator is None:
        return [torch.default_generator]
    several = isinstance(generator, list | tuple)
    generators: list[torch.Generator] = []
    for each in generator if isinstance(generator, list | tuple) else [generator]:
        if not isinstance(each, torch.Generator):
            raise wrong_type("generator", f"a torch.Generator{' for each image' if several else ''}", each)
        if each.device.type != "cpu":
            raise wrong_value("generator", "a generator on the cpu", each.device)
        generators.append(each)
    if several and len(generators) != batch:
        got = f"{len(generators)} of them"
        raise wrong_value("generator", f"one generator, or one for each of {batch} images", got)
    return generators


class Unseeded:
    """Counts a sampler's calls that draw without a generator, and warns once that they differ."""

    def __init__(self) -> None:
        self._calls = 0

    def count(self) -> None:
        """Count a call, and warn at the second call, the first whose numbers differ from those of release 0.1."""
        self._calls += 1
        if self._calls == 2:
            what = "each call of a sampler without generator and latents now draws other noise, as in diffusers; "
            remedy = (
                "until 0.1 every call drew the same noise: pass generator=torch.Generator().manual_seed(0) for that"
            )
            warnings.warn(what + remedy, FutureWarning, stacklevel=callers_level())


def noise_like(shape: Sequence[int], like: Tensor, generators: Generators) -> Tensor:
    """Return standard normal noise [B, c, h, w] in the dtype and on the device of a tensor, drawn on the CPU."""
    draw = partial(torch.randn, dtype=like.dtype, device="cpu")
    if len(generators) == 1:
        return draw(tuple(shape), generator=generators[0]).to(like.device)
    rows = [draw((1, *shape[1:]), generator=each) for each in generators]
    return torch.cat(rows).to(like.device)


def start_noise(
    unet: "UNet2DConditionModel", latents: Tensor | None, batch: int, generators: Generators, weight: Tensor
) -> Tensor:
    """Return start noise in single precision or better, in which the sample is kept from step to step.

    Args:
        unet: UNet, whose configuration says the size.
        latents: the caller's noise, or None.
        batch: number of images.
        generators: draw the noise if ``latents`` is None.
        weight: a weight of the UNet, whose dtype and device the latents must have.

    Raises:
        TypeError: latents that are not a tensor.
        ValueError: latents of another shape, dtype or device, or no latents for a UNet that does not say its size.
    """
    like = weight.new_empty(0, dtype=torch.promote_types(weight.dtype, torch.float32))
    channels, size = unet.config.in_channels, getattr(unet.config, "sample_size", None)
    if latents is not None:
        check_tensor("latents", latents, (batch, channels, "h", "w"), weight)
        return latents.to(like.dtype)
    if size is None:
        wanted = f"start noise [{batch}, {channels}, h, w], because unet.config.sample_size is None"
        raise wrong_value("latents", wanted, None)
    height, width = (size, size) if isinstance(size, int) else size
    return noise_like((batch, channels, height, width), like, generators)


def guided_rows(name: str, positive: Tensor, negative: Tensor | None, guidance_scale: float) -> Tensor:
    """Return a copy of the conditional rows, with the unconditional rows before them where guidance needs them.

    Args:
        name: name of the negative argument.
        positive: [B, ...].
        negative: [1 or B, ...], or None.
        guidance_scale: 1.0 for no guidance.

    Raises:
        TypeError: ``negative`` is not a tensor.
        ValueError: ``negative`` is needed and missing, or of another shape, dtype or device.
    """
    if guidance_scale == 1.0:
        # A copy, as with guidance: a backward may read the rows again after the caller has changed theirs in place, and
        # autograd saves no tensor made in inference mode, such as a prompt that was encoded in it.
        return positive.clone()
    batch, *sizes = positive.shape
    if negative is None:
        wanted = f"a tensor for guidance_scale {guidance_scale} (without guidance, 1.0, none is needed)"
        raise wrong_value(name, wanted, None)
    check_tensor(name, negative, (f"1 or {batch}", *sizes), positive)
    return torch.cat([negative.expand_as(positive), positive])


def added_rows(
    models: "tuple[UNet2DConditionModel, AutoencoderKL]",
    embeds: Tensor,
    values: dict[str, Tensor | None],
    start: Tensor,
    guidance_scale: float,
) -> dict[str, Tensor] | None:
    """Return pooled text and sizes for Stable Diffusion XL, None for other UNets.

    Args:
        models: UNet and VAE.
        embeds: prompt embeddings [B, L, d].
        values: ``pooled_prompt_embeds``, ``negative_pooled_prompt_embeds``, ``time_ids`` and ``negative_time_ids``.
        start: start noise, which says the size of the image.
        guidance_scale: 1.0 for no guidance.

    Raises:
        TypeError: a value that is not a tensor.
        ValueError: a value that is needed and missing, that the UNet does not take, or of another shape or dtype.
    """
    unet, vae = models
    if getattr(unet.config, "addition_embed_type", None) is None:
        for name, value in values.items():
            if value is not None:
                raise wrong_value(name, "None, because this unet is not Stable Diffusion XL", type(value).__name__)
        return None
    pooled, negative, time_ids, negative_ids = values.values()
    batch, width = len(embeds), pooled_width(unet)
    if pooled is None:
        raise wrong_value("pooled_prompt_embeds", f"[{batch}, p], because this unet is Stable Diffusion XL", None)
    check_tensor("pooled_prompt_embeds", pooled, (batch, "p"), embeds)
    if width is not None and pooled.shape[1] != width:
        wanted = f"shape [{batch}, {width}], as the unet's configuration says"
        raise wrong_value("pooled_prompt_embeds", wanted, list(pooled.shape))
    if time_ids is None:
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        height, width = start.shape[2] * factor, start.shape[3] * factor
        time_ids = embeds.new_tensor([[height, width, 0, 0, height, width]])
    check_tensor("time_ids", time_ids, (f"1 or {batch}", 6), embeds)
    time_ids = time_ids.expand(batch, -1)
    negative_ids = time_ids if negative_ids is None else negative_ids
    return {
        "text_embeds": guided_rows("negative_pooled_prompt_embeds", pooled, negative, guidance_scale),
        "time_ids": guided_rows("negative_time_ids", time_ids, negative_ids, guidance_scale),
    }


class Inputs(NamedTuple):
    """The inputs of a call, checked and in the form that the engines read.

    Attributes:
        conditions: prompt embeddings, and pooled text and sizes of Stable Diffusion XL.
        start: start noise [B, c, h, w] in single precision or better.
        noises: for each step fresh noise like ``start``, or None.
        constant_negative: whether no gradient is wanted for the unconditional rows.
    """

    conditions: Conditions
    start: Tensor
    noises: Sequence[Tensor | None]
    constant_negative: bool


def read_inputs(
    models: "tuple[UNet2DConditionModel, AutoencoderKL]",
    schedule: Schedule,
    guidance_scale: float,
    prompts: tuple[Tensor, Tensor | None],
    latents: Tensor | None,
    generator: object,
    sizes: dict[str, Tensor | None],
    unseeded: Unseeded,
) -> Inputs:
    """Check the inputs of a call, in ``torch.autocast`` after they were converted to the UNet's dtype; draw its noise.

    Args:
        models: UNet and VAE.
        schedule: says which steps draw fresh noise.
        guidance_scale: 1.0 for no guidance.
        prompts: prompt embeddings [B, L, d], and those of the unconditional rows or None.
        latents: start noise, or None.
        generator: see ``check_generators``.
        sizes: see ``added_rows``.
        unseeded: counts calls without a generator.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an argument of the wrong shape, dtype or device, or one that is needed and missing.
    """
    unet, weight = models[0], check_ready(*models, (*prompts, latents, *sizes.values()))
    prompts, latents = (converted(prompts[0], weight), converted(prompts[1], weight)), converted(latents, weight)
    sizes = {name: converted(value, weight) for name, value in sizes.items()}
    embeds, width = prompts[0], unet.config.cross_attention_dim
    check_tensor("prompt_embeds", embeds, ("B", "L", width if isinstance(width, int) else "d"), weight)
    generators = check_generators(generator, len(embeds))
    if generator is None and (latents is None or any(step.noise for step in schedule.steps)):
        unseeded.count()
    start = start_noise(unet, latents, len(embeds), generators, weight)
    added = added_rows(models, embeds, sizes, start, guidance_scale)
    embeds = guided_rows("negative_prompt_embeds", *prompts, guidance_scale)
    noises = [noise_like(start.shape, start, generators) if step.noise else None for step in schedule.steps]
    _, negative_pooled, time_ids, negative_ids = sizes.values()
    unconditional = (prompts[1], negative_pooled, time_ids if negative_ids is None else negative_ids)
    constant = not any(isinstance(rows, Tensor) and rows.requires_grad for rows in unconditional)
    return Inputs(Conditions(embeds, added), start, noises, constant)
