"""How exactly a pipeline gives pictures back: through the same path that an edit takes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffexplain_fast.editing.editors import swap
from diffexplain_fast.editing.inversion import invert
from diffexplain_fast.editing.latents import LatentModels
from diffexplain_fast.editing.pictures import as_pixels
from diffexplain_fast.engine.ancestral import ancestral_steps
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.targets import whole_number


class Reconstruction(NamedTuple):
    """Pictures after inversion and an edit that changes nothing.

    Attributes:
        pixels: [B, 3, H, W], what the edit gives, with what the autoencoder loses of each picture put back.
        latent_error: largest difference of a latent from the picture's own.
        vae_error: largest difference of a pixel that the autoencoder alone makes, in units of [0, 1].
        denoiser_rows: rows that the denoiser ran.
    """

    pixels: Tensor
    latent_error: float
    vae_error: float
    denoiser_rows: int


def reconstruct(
    pipeline: object, images: object, steps: int = 8, captions: Sequence[str] | None = None, seed: int = 0
) -> Reconstruction:
    """Invert pictures and give them back by an edit whose caption is the source caption.

    Args:
        pipeline: what ``Explainer`` takes: "tinyworld", a diffusers pipeline object, a hub id, or a folder.
        images: PIL images, or pixels [B, 3, H, W] in [0, 1].
        steps: of the inversion, at least 1.
        captions: one of each picture; None for empty ones.
        seed: decides the noise of the inversion.

    Returns:
        Pixels, and how far latents and autoencoder are off.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: no picture, an argument out of range, not one caption for each picture, or one that is too long.

    Source: Huberman-Spiegelglas et al. (arXiv 2304.06140).
    """
    whole_number("seed", seed)
    whole_number("steps", steps)
    models = LatentModels(load_pipeline(pipeline))
    adapter = models.pipeline
    pixels = as_pixels(images, adapter.image_size, adapter.device)
    texts = checked_captions(captions, len(pixels), adapter) or [""] * len(pixels)
    table, clean = ancestral_steps(adapter.scheduler, steps), models.encode(pixels)
    found = []
    for latent, caption in zip(clean.split(1), texts, strict=True):
        found.append(swap(models, invert(models, table, latent, caption, seed), models.text([caption])))
    latents, decoded = torch.cat(found), models.decode(clean)
    lost = pixels - decoded
    return Reconstruction(
        models.decode(latents) + lost,
        float((latents - clean).abs().max()),
        float(lost.abs().max()),
        models.denoiser_rows,
    )


def checked_captions(captions: object, count: int, pipeline: Pipeline, name: str = "captions") -> list[str] | None:
    """Return captions as a list of one for each of so many pictures, None for None.

    Raises:
        TypeError: no sequence of strings.
        ValueError: another number of them, or one that is longer than the context of the text encoder.
    """
    if captions is None:
        return None
    if isinstance(captions, str) or not isinstance(captions, Sequence):
        raise wrong_type(name, "a sequence of one caption for each picture, or None", captions)
    for caption in captions:
        if not isinstance(caption, str):
            raise wrong_type(name, "strings", caption)
    if len(captions) != count:
        raise wrong_value(name, f"{count}, one for each picture", len(captions))
    for i, caption in enumerate(captions, start=1):
        if not pipeline.fits(caption):
            got = f"{len(pipeline.token_ids(caption))} tokens" + f" for picture {i}" * (count > 1)
            raise wrong_value(name, f"at most {pipeline.max_tokens} tokens between begin and end", got)
    return list(captions)
