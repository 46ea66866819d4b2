"""Editors: each takes the inversion of one picture and gives B edited latents, one for each target text."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from diffexplain_fast.editing.checks import check_number, checked_masks, rows_of
from diffexplain_fast.editing.inversion import Inversion, Noised, check_inversion, guided, steered, stepped
from diffexplain_fast.editing.latents import LatentModels, check_models
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.evidence.seeds import normal, seeded_generator
from diffexplain_fast.models.conditioning import Conditioning
from diffexplain_fast.targets import whole_number


def swap(
    models: LatentModels,
    inversion: Inversion,
    target: Conditioning,
    strength: float = 1.0,
    masks: Tensor | None = None,
) -> Tensor:
    """Replay the residuals with another caption: o = o_source + strength (o_target - o_source).

    Both outputs have the guidance of the inversion, so a target that is the source gives the picture back.

    Args:
        models: encoder, denoiser and decoder.
        inversion: of the picture, with its own caption.
        target: B captions as they are to be.
        strength: 1 needs the target's output only, any other number the source's too. Each output is one row of the
            denoiser a step, and two where the inversion is guided.
        masks: latents that may change [B, 1, h, w], or [1, 1, h, w] for every picture, 0 or 1 or bool, while the rest
            follows the inversion; None for all.

    Returns:
        Latents [B, c, h, w].

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: masks of another size or number, or a strength that is not finite.

    Source: Huberman-Spiegelglas et al. (arXiv 2304.06140), section 3.2.
    """
    check_models(models)
    check_inversion(inversion)
    count = rows_of("target", target)
    check_number("strength", strength)
    masks = None if masks is None else checked_masks(masks, count, inversion.samples)
    source = models.text([inversion.caption]) if strength != 1.0 else None

    def predict(i: int, sample: Tensor) -> Tensor:
        times = [inversion.table.steps[i].timestep] * len(sample)
        wanted = guided(models, sample, times, target, inversion.scale(i))
        if source is None:
            return wanted
        own = guided(models, sample, times, source, inversion.scale(i))
        return own + strength * (wanted - own)

    return _replayed(inversion, count, predict, masks)


def guide(
    models: LatentModels,
    inversion: Inversion,
    added: Conditioning,
    removed: Conditioning | None = None,
    scale: float = 5.0,
    quantile: float = 0.75,
) -> Tensor:
    """Add and remove semantics by guidance, each only where its own estimate differs most from the source's.

        o = o_source + scale M_added (o_added - o_source) - scale M_removed (o_removed - o_source)

    The masks of noise estimates are here; the published editor multiplies them by masks of cross-attention. The first
    o_source has the guidance of the inversion, so that a scale of 0, and adding the source caption, give the picture
    back; the differences are of outputs without guidance, so that a scale means the same in every inversion.

    Args:
        models: encoder, denoiser and decoder.
        inversion: of the picture, as published with an empty caption and without guidance.
        added: B texts to be added.
        removed: B texts to be removed, or one from all pictures; None for nothing.
        scale: strength of the guidance, a finite number.
        quantile: share of the picture that a mask leaves out, from 0 to below 1.

    Returns:
        Latents [B, c, h, w].

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: another number of texts to be removed, or a number out of range.

    Source: Brack et al., LEDITS++ (arXiv 2311.16711), eqs. 7 to 10, without cross-attention masks.
    """
    check_models(models)
    check_inversion(inversion)
    count = rows_of("added", added)
    if removed is not None and rows_of("removed", removed) not in (1, count):
        raise wrong_value("removed", f"{count} texts, as many as are added, or one", rows_of("removed", removed))
    check_number("scale", scale)
    check_number("quantile", quantile)
    if not 0 <= quantile < 1:
        raise wrong_value("quantile", "from 0 to below 1", quantile)
    source = models.text([inversion.caption])

    def predict(i: int, sample: Tensor) -> Tensor:
        times = [inversion.table.steps[i].timestep] * len(sample)
        own = models.predict(sample, times, source)
        held = inversion.scale(i)
        found = own if held == 1.0 else steered(models, sample, times, own, held)
        for sign, text in ((1, added), (-1, removed)):
            if text is not None:
                change = models.predict(sample, times, text) - own
                found = found + sign * scale * _strongest(change, quantile) * change
        return found

    return _replayed(inversion, count, predict)


def inpaint(
    models: LatentModels,
    inversion: Inversion | Noised,
    target: Conditioning,
    masks: Tensor,
    guidance_scale: float = 3.0,
    seed: int = 0,
) -> Tensor:
    """Draw a region anew with fresh noise, while the rest follows the inversion's own samples.

    Args:
        models: encoder, denoiser and decoder.
        inversion: of the picture; its samples are enough, see ``noised``.
        target: B captions of the whole picture as it is to be.
        masks: latents to draw anew [B, 1, h, w], or [1, 1, h, w] in every picture, 0 or 1 or bool; see ``latent_mask``.
        guidance_scale: classifier-free guidance away from no caption, at least 1.
        seed: decides the fresh noise.

    Returns:
        Latents [B, c, h, w].

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: masks of another size or number, or guidance below 1.

    Source: Avrahami et al., Blended Latent Diffusion (arXiv 2206.02779), algorithm 1.
    """
    check_models(models)
    if not isinstance(inversion, Inversion | Noised):
        raise wrong_type("inversion", "what invert(...) or noised(...) returns", inversion)
    table, samples, count = inversion.table, inversion.samples, rows_of("target", target)
    check_number("guidance_scale", guidance_scale, 1)
    whole_number("seed", seed)
    masks = checked_masks(masks, count, samples)
    masks = masks.expand(max(count, len(masks)), -1, -1, -1)

    def fresh(i: int) -> Tensor:
        drawn = [
            normal(seeded_generator(seed, f"editing/inpaint/{i}", row), *samples.shape[1:]) for row in range(len(masks))
        ]
        return torch.stack(drawn).to(samples.device)

    current = masks * fresh(-1) + (1 - masks) * samples[:1]
    for i, step in enumerate(table.steps):
        times = [step.timestep] * len(current)
        output = guided(models, current, times, target, guidance_scale)
        drawn = step.sample * current + step.output * output
        drawn = drawn + step.noise * fresh(i) if step.noise else drawn
        current = masks * drawn + (1 - masks) * samples[i + 1]
    return current


def _replayed(
    inversion: Inversion, count: int, predict: Callable[[int, Tensor], Tensor], masks: Tensor | None = None
) -> Tensor:
    """Run the steps from the noisiest sample with a denoiser of one's own, adding the kept residuals."""
    sample = inversion.samples[:1].expand(count, -1, -1, -1)
    for i in range(len(inversion.table.steps)):
        sample = stepped(inversion, i, sample, predict(i, sample))
        sample = sample if masks is None else masks * sample + (1 - masks) * inversion.samples[i + 1]
    return sample


def _strongest(change: Tensor, quantile: float) -> Tensor:
    """Return a mask [B, 1, h, w] of the places at which a smoothed change is above its quantile."""
    size = avg_pool2d(pad(change.abs().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate"), 3, 1)
    least = torch.quantile(size.flatten(1), quantile, dim=1).view(-1, 1, 1, 1)
    return (size >= least).float()
